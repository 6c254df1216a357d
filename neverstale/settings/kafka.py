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
from neverstale.settings.section import SettingsSection


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
        description="A consumer's own name in the group: back within the session time-out, it keeps its partitions.",
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
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="How user and password are given."
    )
    sasl_username: str | None = Field(None, description="User, where the protocol has SASL.")
    sasl_password: SecretStr | None = Field(None, description="Password, where the protocol has SASL.")
    ssl_cafile: Path | None = Field(None, description="Authorities to trust; default: the system's.")
    request_timeout_ms: PositiveInt = Field(10_000, description="Deadline of one request to a broker.")
    session_timeout_ms: PositiveInt = Field(10_000, description="A silent consumer loses its partitions after this.")
    fetch_max_wait_ms: PositiveInt = Field(500, description="How long a broker may hold an empty fetch.")

    @model_validator(mode="after")
    def _security_is_whole(self) -> Self:
        if self.security_protocol.startswith("SASL"):
            for name in ("sasl_username", "sasl_password"):
                if not getattr(self, name):
                    raise wrong(f"is missing, but the protocol is {self.security_protocol}", "set it", name)
        elif self.sasl_username or self.sasl_password:
            name = "sasl_username" if self.sasl_username else "sasl_password"
            raise wrong(
                f"has no effect with {self.security_protocol}",
                "set kafka.security_protocol to SASL_SSL (or SASL_PLAINTEXT), or remove it",
                name,
            )
        if self.ssl_cafile and not self.ssl_cafile.is_file():
            raise wrong(f"there is no file {self.ssl_cafile}", "name a readable PEM file", "ssl_cafile")
        return self

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
