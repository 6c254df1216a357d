"""What Kafka refuses for good: told apart from outages by the class of the error, and said with what to change.

An outage passes by itself and is tried again soon. A refusal lasts until somebody changes a setting, the topic or the
rights of a user: it is tried again all the same, so that nothing need be restarted when that is done, but ever more
seldom. Message texts are never read. aiokafka has no class for some codes (87, a record without key in a compacted
topic, is an `UnknownError`), so the topic's configuration is looked at, too (`neverstale.kafka.topic`).
"""

from typing import Final, Literal

from aiokafka import errors
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError

from neverstale.errors import KafkaRefuses, Outage
from neverstale.links.tls import refused_by
from neverstale.servers import kafka_options
from neverstale.settings import Kafka

_CREDENTIALS: Final = "correct kafka.sasl_username and kafka.sasl_password, or what gives tokens (kafka.oauth_*)"
_MECHANISM: Final = "set kafka.sasl_mechanism and kafka.security_protocol to what the brokers offer"
_VERSION: Final = "use Apache Kafka 2.1 or later"

REMEDIES: Final[dict[type[KafkaError], str]] = {
    # who may do what
    errors.TopicAuthorizationFailedError: (
        "allow it: kafka-acls --bootstrap-server {servers} --add --allow-principal User:{user} "
        "--operation {needs} --topic {topic}"
    ),
    errors.ClusterAuthorizationFailedError: (
        # Not on the cluster: Kafka takes the right on a topic for both that we ask of it (Create, IdempotentWrite).
        "allow it: kafka-acls --bootstrap-server {servers} --add --allow-principal User:{user} "
        "--operation {needs} --topic {topic}"
    ),
    errors.GroupAuthorizationFailedError: (
        "allow it: kafka-acls --bootstrap-server {servers} --add --allow-principal User:{user} --operation Read "
        "--group {group}"
    ),
    errors.TransactionalIdAuthorizationFailed: "allow the user IdempotentWrite on the cluster",
    # who we are
    errors.SaslAuthenticationFailed: _CREDENTIALS,
    errors.AuthenticationFailedError: _CREDENTIALS,
    errors.UnsupportedSaslMechanismError: _MECHANISM,
    errors.AuthenticationMethodNotSupported: _MECHANISM,
    errors.IllegalSaslStateError: _MECHANISM,
    errors.SecurityDisabled: _MECHANISM,
    # what the brokers can do
    errors.UnsupportedVersionError: _VERSION,
    errors.IncompatibleBrokerVersion: _VERSION,
    errors.UnrecognizedBrokerVersion: _VERSION,
    errors.UnsupportedForMessageFormatError: _VERSION,
    errors.UnsupportedCodecError: _VERSION,
    # how the topic is, or was to be made
    errors.InvalidReplicationFactorError: "lower kafka.replication_factor, or add brokers",
    errors.InvalidPartitionsError: "correct kafka.partitions",
    errors.InvalidTopicError: "correct kafka.topic",
    errors.InvalidConfigurationError: "correct kafka.retention_ms, or create the topic {topic} yourself",
    errors.PolicyViolationError: "create the topic {topic} as the brokers' policy wants it",
    errors.InvalidReplicationAssignmentError: "create the topic {topic} yourself",
    errors.InvalidTimestampError: (
        "let it take times of writers: kafka-configs --bootstrap-server {servers} --alter --entity-type topics "
        "--entity-name {topic} --add-config message.timestamp.type=LogAppendTime"
    ),
    errors.MessageSizeTooLargeError: (
        "let it take larger batches: kafka-configs --bootstrap-server {servers} --alter --entity-type topics "
        "--entity-name {topic} --add-config max.message.bytes=1048588"
    ),
    errors.RecordListTooLargeError: (
        "let it take larger batches: kafka-configs --bootstrap-server {servers} --alter --entity-type topics "
        "--entity-name {topic} --add-config segment.bytes=1073741824"
    ),
    errors.InvalidRequiredAcksError: "let the topic {topic} acknowledge by all of its replicas (acks=all)",
    # the group
    errors.InvalidSessionTimeoutError: (
        "set kafka.session_timeout_ms within the brokers' group.min.session.timeout.ms and "
        "group.max.session.timeout.ms"
    ),
    errors.InconsistentGroupProtocolError: "choose another kafka.group: consumers of another kind are in this one",
    errors.InvalidGroupIdError: "correct kafka.group",
}
"""Every error that no waiting ends -> the remedy."""


Needs = Literal["Create", "DescribeConfigs", "Read", "Write"]
"""The right on the topic without which what was tried is refused."""


def refused(error: BaseException, settings: Kafka, needs: Needs = "Read") -> KafkaRefuses | None:
    """The refusal that an error is; `None`: it is none, so it may pass by itself. A producer that was refused says
    only that it does not run any more, and why in its cause."""
    cause: BaseException | None = error
    while isinstance(cause, KafkaError):
        for kind in type(cause).__mro__:
            if (remedy := REMEDIES.get(kind)) is not None:
                reason = f"{type(cause).__name__} for topic {settings.topic}"
                return KafkaRefuses(reason, filled(remedy, settings, needs))
        cause = cause.__cause__
    return None


def as_ours(error: BaseException, settings: Kafka, needs: Needs = "Read") -> KafkaRefuses | Outage:
    """What an error of the client means."""
    return refused(error, settings, needs) or Outage("kafka", f"{type(error).__name__}: {error}")


async def not_let_in(error: BaseException, settings: Kafka, needs: Needs = "Read") -> KafkaRefuses | Outage:
    """The same, where a client may just not have got in, of which it says no more than that."""
    found = as_ours(error, settings, needs)
    if isinstance(found, Outage) and isinstance(error, KafkaConnectionError | NodeNotReadyError):
        return await at_the_door(settings) or found
    return found


def filled(remedy: str, settings: Kafka, needs: Needs = "Read") -> str:
    """With the names that these settings have for things."""
    return remedy.format(
        needs=needs,
        servers=settings.bootstrap_servers,
        topic=settings.topic,
        group=settings.group,
        user=_user(settings),
    )


def _user(settings: Kafka) -> str:
    """Who we are to Kafka, as far as the settings tell: not what a certificate or a token says."""
    shown = settings.ssl_certfile or settings.oauth_token_file or settings.oauth_token_provider
    return settings.sasl_username or ("USER" if shown else "ANONYMOUS")


def altered(config: str, settings: Kafka) -> str:
    """The command that changes a configuration of the topic; `config` is name=value."""
    return filled(
        "kafka-configs --bootstrap-server {servers} --alter --entity-type topics --entity-name {topic} --add-config "
        + config,
        settings,
    )


def _of_certificates(error: BaseException) -> KafkaRefuses | None:
    """Whose certificate the other side does not take; `None`: certificates are not the matter."""
    match refused_by(error):
        case "us":
            remedy = "set kafka.ssl_cafile to who signed it, and kafka.bootstrap_servers to names that stand in it"
            return KafkaRefuses("its certificate is not trusted", remedy)
        case "them":
            remedy = "renew kafka.ssl_certfile, signed by an authority of the broker's, or correct security_protocol"
            return KafkaRefuses("it refuses the certificate that we show, or that we show none", remedy)
    return None


async def at_the_door(settings: Kafka) -> KafkaRefuses | None:
    """Whether a broker refuses our way of coming in, or who we are. A client tells only that it did not get in."""
    options = kafka_options(settings)
    servers = options.pop("bootstrap_servers")
    options.pop("metadata_max_age_ms")
    for server in servers:
        host, _, port = server.rpartition(":")
        try:
            connection = await create_conn(host.strip("[]"), int(port), **options)
        except (KafkaError, OSError) as error:
            if (refusal := refused(error, settings) or _of_certificates(error)) is not None:
                return refusal
        else:
            connection.close()
            return None
    return None
