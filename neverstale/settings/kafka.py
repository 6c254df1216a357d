"""Section `kafka`: brokers, topics and the consumer group."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PositiveInt,
    SecretStr,
    model_validator,
)

from neverstale.misconfiguration import wrong
from neverstale.settings.section import (
    CaFile,
    CertFile,
    CheckHostname,
    KeyFile,
    KeyPassword,
    SettingsSection,
    refuse_wrong_tls,
)


def _bootstrap(servers: str) -> str:
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
            raise wrong(f"{server.strip()!r} is not host:port", "e.g. broker1:9092,broker2:9092")
    return servers


LONGEST_TOPIC = 249


class Kafka(SettingsSection):
    bootstrap_servers: Annotated[str, AfterValidator(_bootstrap)] = Field(
        "127.0.0.1:9092", description="Comma-separated host:port."
    )
    topic: str = Field("neverstale.changes", pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="Topic of changes.")
    group: str = Field("neverstale", min_length=1, description="Consumer group.")
    group_instance_id: str | None = Field(
        None,
        pattern=r"^[a-zA-Z0-9._-]{1,200}$",
        description="A consumer's own name in the group: after a crash it takes its old place again at once.",
    )
    partitions: int = Field(4, gt=0, le=10_000, description="Partitions of the topic, when we create it.")
    replication_factor: PositiveInt = Field(1, description="Replicas of the topic, when we create it.")
    retention_ms: PositiveInt = Field(86_400_000, description="Retention of the topic, when we create it.")
    dead_topic: str | None = Field(
        None,
        pattern=r"^[a-zA-Z0-9._-]{1,249}$",
        description="Topic of dead letters; default: the topic's name + .dead.",
    )
    dead_retention_ms: PositiveInt = Field(
        604_800_000, description="Retention of the topic of dead letters, when we create it."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "PLAIN", description="How we say who we are, where the protocol has SASL."
    )
    sasl_username: str | None = Field(None, description="User, where the mechanism has passwords.")
    sasl_password: SecretStr | None = Field(None, description="Password, where the mechanism has passwords.")
    oauth_token_file: Path | None = Field(
        None, description="For OAUTHBEARER: a file that holds the token; it is read for each connection."
    )
    oauth_token_provider: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$",
        description="For OAUTHBEARER: `module:attribute`, called for an `AbstractTokenProvider` of aiokafka.",
    )
    ssl_cafile: CaFile = None
    ssl_certfile: CertFile = None
    ssl_keyfile: KeyFile = None
    ssl_key_password: KeyPassword = None
    ssl_check_hostname: CheckHostname = True
    request_timeout_ms: PositiveInt = Field(10_000, description="Deadline of one request to a broker.")
    session_timeout_ms: PositiveInt = Field(6000, description="A silent consumer loses its partitions after this.")
    fetch_max_wait_ms: PositiveInt = Field(500, description="How long a broker may hold an empty fetch.")

    @model_validator(mode="after")
    def _security_is_whole(self) -> Self:
        wanted = self._wanted_of_sasl()
        for name in wanted:
            if not getattr(self, name):
                raise wrong(f"is missing, but the protocol is {self.security_protocol}", "set it", name)
        for name in ("sasl_username", "sasl_password", "oauth_token_file", "oauth_token_provider"):
            if getattr(self, name) and name not in wanted:
                raise wrong(f"has no effect with {self._how}", self._remedy_for(name), name)
        if self.oauth_token_file and not self.oauth_token_file.is_file():
            raise wrong(f"there is no file {self.oauth_token_file}", "name a readable file", "oauth_token_file")
        used = self.security_protocol in ("SSL", "SASL_SSL")
        refuse_wrong_tls(self, used=used, remedy="set kafka.security_protocol to SSL or SASL_SSL, or remove it")
        return self

    def _wanted_of_sasl(self) -> tuple[str, ...]:
        if not self.security_protocol.startswith("SASL"):
            return ()
        if self.sasl_mechanism != "OAUTHBEARER":
            return ("sasl_username", "sasl_password")
        if self.oauth_token_file and self.oauth_token_provider:
            raise wrong("there are two sources of tokens", "keep one of them", "oauth_token_provider")
        return ("oauth_token_provider",) if self.oauth_token_provider else ("oauth_token_file",)

    @property
    def _how(self) -> str:
        sasl = self.security_protocol.startswith("SASL")
        return self.sasl_mechanism if sasl else self.security_protocol

    def _remedy_for(self, name: str) -> str:
        if self.security_protocol.startswith("SASL"):
            other = "OAUTHBEARER" if name.startswith("oauth") else "one with passwords"
            return f"set kafka.sasl_mechanism to {other}, or remove it"
        return "set kafka.security_protocol to SASL_SSL (or SASL_PLAINTEXT), or remove it"

    @property
    def dead_topic_name(self) -> str:
        return self.dead_topic or f"{self.topic}.dead"

    @model_validator(mode="after")
    def _dead_letters_have_their_own_topic(self) -> Self:
        if self.dead_topic == self.topic:
            raise wrong("is kafka.topic, whose readers would read them again", "name another", "dead_topic")
        if len(self.dead_topic_name) > LONGEST_TOPIC:
            raise wrong("is too long to have .dead appended", "set kafka.dead_topic, or shorten it", "topic")
        return self

    @model_validator(mode="after")
    def _fetch_fits_into_request(self) -> Self:
        if self.fetch_max_wait_ms >= self.request_timeout_ms:
            raise wrong(
                f"{self.fetch_max_wait_ms} is not below kafka.request_timeout_ms ({self.request_timeout_ms})",
                "lower it, or every idle fetch is taken for a dead broker",
                "fetch_max_wait_ms",
            )
        return self
