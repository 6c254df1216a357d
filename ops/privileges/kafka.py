"""Access control lists of Kafka."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.ops.privileges.roles import ROLES, Role, user_of
from neverstale.settings import Kafka
from neverstale.watcher_groups import kafka_of

Kind = Literal["topic", "group"]
Operation = Literal["Create", "Delete", "Describe", "DescribeConfigs", "Read", "Write"]


@dataclass(frozen=True, slots=True)
class Acl:
    """What a user may do with one topic or group. `Describe` follows from Read, Write and Delete."""

    kind: Kind
    name: str
    operations: tuple[Operation, ...]


def of_role(role: Role, settings: Kafka, groups: Iterable[str] = (DEFAULT_GROUP,)) -> Sequence[Acl]:
    """With the topics of these watcher groups. The API has nothing to do with Kafka, and needs no user there."""
    return [acl for group in groups for acl in _of_group(role, kafka_of(settings, group))]


def _of_group(role: Role, settings: Kafka) -> Sequence[Acl]:
    topic, dead, group = settings.topic, settings.dead_topic_name, settings.group
    made: tuple[Operation, ...] = ("Create", "DescribeConfigs")
    match role:
        case "watcher":
            return (Acl("topic", topic, (*made, "Write")),)
        case "consumer":
            return (
                Acl("topic", topic, ("Read",)),
                Acl("topic", dead, (*made, "Write")),
                Acl("group", group, ("Read",)),
            )
        case "operator":
            return (
                Acl("topic", topic, (*made, "Read", "Write")),
                Acl("topic", dead, (*made, "Read", "Write", "Delete")),
                Acl("group", group, ("Read",)),
            )
    return ()


SERVER: Final = """\
listener.security.protocol.map=SASL:SASL_SSL,TLS:SSL,CONTROLLER:SSL
inter.broker.listener.name=TLS
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
ssl.client.auth=required
listener.name.sasl.ssl.client.auth=none
ssl.principal.mapping.rules=RULE:^.*CN=([^,]+).*$/$1/,DEFAULT
sasl.enabled.mechanisms=SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{broker};User:{admin}
allow.everyone.if.no.acl.found=false
"""
"""Properties of a broker with two listeners: TLS with certificates of clients, whose common name is their user; and
SASL over TLS with passwords or tokens."""

WITH_USERS: Final[tuple[Role, ...]] = tuple(role for role in ROLES if of_role(role, Kafka()))


CONNECT: Final = "--bootstrap-server BROKER:9093 --command-config admin.properties"


def script(settings: Kafka, groups: Iterable[str] = (DEFAULT_GROUP,), connect: str = CONNECT) -> str:
    """Lines for a shell with Kafka's tools."""
    served = list(groups)
    return "\n".join(
        f"kafka-acls.sh {connect} --add --allow-principal User:{user_of(role)} {_spelled(acl)}"
        for role in WITH_USERS
        for acl in of_role(role, settings, served)
    )


def users_script(connect: str = CONNECT) -> str:
    """Lines that create a user with a password (SCRAM) for each role that has to do with Kafka."""
    return "\n".join(
        f"kafka-configs.sh {connect} --alter --entity-type users --entity-name {user_of(role)}"
        f" --add-config 'SCRAM-SHA-512=[password=PASSWORD]'"
        for role in WITH_USERS
    )


def _spelled(acl: Acl) -> str:
    operations: Iterator[str] = (f"--operation {one}" for one in acl.operations)
    return f"{' '.join(operations)} --{acl.kind} {acl.name}"
