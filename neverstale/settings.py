"""Every setting, with its unit and default. This module is the reference that the docs are checked against.

A setting's name in the environment is `NEVERSTALE_` + section + `__` + field, in upper case; in
`neverstale.toml` it is `field` under `[section]`.
"""

import warnings
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

from neverstale.misconfiguration import wrong


def _mongodb_uri(uri: SecretStr) -> SecretStr:
    text = uri.get_secret_value()
    if not text.startswith(("mongodb://", "mongodb+srv://")):
        raise wrong("does not start with mongodb:// or mongodb+srv://", "e.g. mongodb://host:27017/?replicaSet=rs0")
    address, _, options = text.partition("?")
    # An SRV name is resolved when a client connects, not here.
    if "@" in options or (address.startswith("mongodb://") and not _is_accepted(address)):
        raise wrong(
            "is not a connection string of MongoDB",
            "percent-encode user and password; e.g. mongodb://user:p%40ss@host:27017/?replicaSet=rs0",
        )
    for option in filter(None, options.split("&")):
        if not _is_accepted(f"mongodb://host/?{option}"):
            raise wrong(f"the driver refuses its option {option.partition('=')[0]}", "correct its name or value")
    return uri


def _is_accepted(uri: str) -> bool:
    """Whether the driver's own parser takes it; its words are not repeated, they may hold a part of the password."""
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    try:
        with warnings.catch_warnings(action="ignore"):  # The client warns once it is made.
            parse_uri(uri)
    except (PyMongoError, ValueError, OSError):
        return False
    return True


def _redis_url(url: SecretStr) -> SecretStr:
    example = "e.g. redis://user:p%40ss@host:6379/0"
    try:
        parts = urlsplit(url.get_secret_value())
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    if not port_is_right:
        raise wrong("is not a URL of Redis", f"percent-encode user and password; {example}")
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise wrong("does not start with redis://, rediss:// or unix://", example)
    if parts.scheme != "unix" and not parts.hostname:
        raise wrong("names no host", example)
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise wrong("has a path that is not the number of a database", example)
    return url


def _bootstrap(servers: str) -> str:
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
            raise wrong(f"{server.strip()!r} is not host:port", "e.g. broker1:9092,broker2:9092")
    return servers


Port = Annotated[int, Field(ge=0, le=65535)]
LeaseMs = Annotated[int, Field(gt=0, le=60_000)]
"""A longer lease is not believed, see `lease.lua`."""


class SettingsSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MongoDB(SettingsSection):
    uri: Annotated[SecretStr, AfterValidator(_mongodb_uri)] = Field(
        SecretStr("mongodb://127.0.0.1:27017/?replicaSet=rs0"),
        description="Connection string of the replica set.",
    )
    server_selection_timeout_ms: PositiveInt = Field(2000, description="Wait for a usable member, per call.")
    read_timeout_ms: PositiveInt = Field(2000, description="Deadline of one snapshot read, retries included.")
    max_pool_size: PositiveInt = Field(32, description="Connections per process.")


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


class RedisSettings(SettingsSection):
    url: Annotated[SecretStr, AfterValidator(_redis_url)] = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="redis://, rediss:// or unix:// URL."
    )
    prefix: str = Field("ns", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="All keys of ours start with it.")
    read_timeout_ms: PositiveInt = Field(50, description="The API gives up on a command after this: an outage.")
    write_timeout_ms: PositiveInt = Field(2000, description="A consumer gives up on a batch after this.")
    connect_timeout_ms: PositiveInt = Field(250, description="Deadline of a new connection.")
    max_connections: PositiveInt = Field(64, description="Connections per process.")


class WatcherSettings(SettingsSection):
    group: str = Field(
        "default", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="Watchers of one group share a position."
    )
    lease_ms: PositiveInt = Field(3000, description="A silent watcher loses its place to a standby after this.")
    heartbeat_ms: PositiveInt = Field(1000, description="Period of the heartbeat write; an idle bound stays near it.")
    mark_interval_ms: PositiveInt = Field(50, description="Marks are at least this far apart under load.")
    max_await_ms: PositiveInt = Field(500, description="How long the server may hold an empty getMore.")
    batch_size: PositiveInt = Field(5000, description="Change events per getMore.")
    gather_ms: float = Field(0, ge=0, description="Pause between getMores under load; trades latency for CPU.")
    checkpoint_interval_ms: PositiveInt = Field(200, description="Positions are stored at most this often.")
    max_in_flight_batches: PositiveInt = Field(8, description="Batches read but not yet acknowledged by Kafka.")

    @model_validator(mode="after")
    def _marks_come_between_heartbeats(self) -> Self:
        if self.mark_interval_ms > self.heartbeat_ms:
            raise wrong(
                f"{self.mark_interval_ms} is above watcher.heartbeat_ms ({self.heartbeat_ms})",
                "lower it: each heartbeat is followed by a mark",
                "mark_interval_ms",
            )
        return self


class ConsumerSettings(SettingsSection):
    max_batch: PositiveInt = Field(8000, description="Records applied together.")
    commit_interval_ms: PositiveInt = Field(500, description="Offsets of applied records are committed this often.")
    replay_seconds: PositiveInt = Field(
        900, description="What a Redis lacks is applied to it again; if that is older, all it holds is void instead."
    )
    dead_letters_per_second: PositiveFloat = Field(
        10, description="Unreadable records that are kept as dead letters, in the mean; all invalidate."
    )
    dead_letters_burst: PositiveInt = Field(1000, description="So many at once may exceed that.")
    version_tolerance_seconds: PositiveFloat = Field(
        5, description="A version further ahead of MongoDB's clock is believed only if MongoDB says so when asked."
    )
    lease_ms: LeaseMs = Field(3000, description="Life of a lease that a refresh holds.")
    refresh_concurrency: PositiveInt = Field(4, description="Refresh reads of MongoDB under way at once.")
    refresh_queue: PositiveInt = Field(10_000, description="Refreshes waiting; more are dropped (a miss, no harm).")


Demands = Literal["all", "limited", "none"]


class Api(SettingsSection):
    host: str = Field("127.0.0.1", description="Address to bind.")
    port: Port = Field(8000, description="Port to bind.")
    workers: PositiveInt = Field(1, description="Processes.")
    lease_ms: LeaseMs = Field(2000, description="Life of a lease: the longest time a fill may take.")
    wait_ms: PositiveInt = Field(500, description="How long a miss waits for another's fill before it reads MongoDB.")
    mongodb_concurrency: PositiveInt = Field(16, description="Reads of MongoDB under way at once, per process.")
    mongodb_queue: PositiveInt = Field(2000, description="Reads waiting for MongoDB; more are refused with 503.")
    queue_deadline_ms: PositiveInt = Field(1000, description="A read that waited longer is refused with 503.")
    unknown_percent: int = Field(
        50,
        ge=1,
        le=100,
        description="Share of these reads, and of those waiting, that keys not known to have a document may take.",
    )
    demands: Demands = Field(
        "limited",
        description="Reads of MongoDB that requests demand (no-cache, max-age, Neverstale-Min-Version): `all`: as any"
        " other; `limited`: only a share of them at once; `none`: 403 where the cache does not meet the demand.",
    )
    demanded_percent: int = Field(
        25, ge=1, le=100, description="Share of the reads, and of those waiting, that limited demands may take."
    )
    absences_per_second: PositiveFloat = Field(
        200, description="Absent documents and empty pages that each process newly keeps in Redis."
    )
    aggregations: PositiveInt = Field(
        2, description="Counts and rankings asked of MongoDB at once, per process, where Redis does not know them."
    )
    aggregation_queue: PositiveInt = Field(100, description="More of them that wait are refused with 503.")
    aggregation_timeout_ms: PositiveInt = Field(2000, description="MongoDB gives up on one after this: a 503.")
    aggregation_kept_ms: NonNegativeInt = Field(
        1000, description="What MongoDB has counted answers others for so long, with a bound that grows."
    )
    exports: PositiveInt = Field(2, description="Exports under way at once, per process; more are refused with 503.")
    export_bytes_per_second: PositiveInt = Field(
        64 << 10, description="An export that is read more slowly is broken off when another one wants its place."
    )
    export_stall_seconds: PositiveFloat = Field(
        30, description="An export whose client reads nothing for so long is broken off."
    )
    cursor_secret: SecretStr | None = Field(
        None,
        min_length=16,
        max_length=64,
        description="Signs cursors, the same in all API processes; without it callers can make cursors of their own.",
    )
    freshness_interval_ms: PositiveInt = Field(50, description="Period at which watermarks are fetched.")
    l1_bytes: NonNegativeInt = Field(
        128 << 20, description="Answers kept in the memory of each process, in bytes; 0: none."
    )
    channel_silence_ms: PositiveInt = Field(
        3000, description="Announcements silent for longer void what is kept in memory; above watcher.heartbeat_ms."
    )
    breaker_failures: PositiveInt = Field(3, description="Consecutive Redis failures that open the breaker.")
    warm_reads_per_second: PositiveFloat = Field(
        200, description="Pages and documents read to warm the cache, as the catalog says."
    )
    warm_deadline_seconds: float = Field(
        30,
        ge=0,
        description="So long an API that warms the cache at its start is not ready; 0: it is at once.",
    )
    reads_flush_ms: PositiveInt = Field(
        1000, description="Reads are added to the most-read documents this often; a crash loses those since."
    )
    reads_half_life_seconds: PositiveFloat = Field(
        3600, description="After this a read counts half among the most read."
    )
    breaker_open_ms: PositiveInt = Field(500, description="An open breaker lets one probe through after this.")
    notice_ms: NonNegativeInt = Field(
        500, description="After SIGTERM: /readyz says 503 and answers `Connection: close` for so long, then it stops."
    )

    @model_validator(mode="after")
    def _waiting_ends_with_the_lease(self) -> Self:
        if self.wait_ms > self.lease_ms:
            raise wrong(
                f"{self.wait_ms} is above api.lease_ms ({self.lease_ms})",
                "lower it: after the lease there is no fill to wait for",
                "wait_ms",
            )
        return self


class Clients(SettingsSection):
    connections: PositiveInt = Field(
        10_000, description="Of each process; the next one is told 503 and closed. Idle ones cost about 10 KB each."
    )
    head_bytes: PositiveInt = Field(
        64 << 10, description="A request line and header lines may have so many; so may trailers. More are a 431."
    )
    head_lines: PositiveInt = Field(256, description="Header lines of a request; more are a 431.")
    head_seconds: PositiveFloat = Field(
        10, description="From a head's first byte to its last (else 408), and from a connection to its first head."
    )
    body_bytes: PositiveInt = Field(
        64 << 10, description="Of a request's body, which is thrown away; a longer one is a 413."
    )
    keep_alive_seconds: float = Field(
        5, ge=0, description="After an answer the next head must begin within this, whatever else is sent."
    )
    stall_seconds: PositiveFloat = Field(
        20, description="A client that takes less than 16 KiB of its answer within this is cut off."
    )
    heard_bytes: PositiveInt = Field(
        32 << 20,
        description="Held by each process of what clients have sent and nobody has answered yet (parts of heads, "
        "what waits behind a request); beyond it those are cut off that hold something for longest.",
    )
    answer_bytes: PositiveInt = Field(
        32 << 20, description="Documents of one answer to `keys=` may have so many together; more are a 413."
    )
    unread_bytes: PositiveInt = Field(
        32 << 20,
        description="Held by each process for clients that have not read it yet; then those that take nothing are "
        "cut off, and large answers refused with 503.",
    )


class Limits(SettingsSection):
    requests_per_second: float = Field(
        0, ge=0, le=1_000_000, description="Of each caller, in the mean, by all processes together; 0: no limit."
    )
    burst: PositiveInt = Field(100, description="So many at once, after a pause.")
    key_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="Callers are told apart by this header, which a gateway has checked; without it by address.",
    )
    trusted_proxies: NonNegativeInt = Field(
        0, description="So many proxies of yours append to X-Forwarded-For on the way here; 0: it is not believed."
    )
    without_redis: Literal["open", "closed"] = Field(
        "open", description="open: each process counts for itself while Redis is away; closed: 503."
    )
    reserve: PositiveInt = Field(
        100, description="Tokens a process takes at once for a busy caller; at most a quarter of the burst."
    )


class Service(SettingsSection):
    host: str = Field("127.0.0.1", description="Address of a watcher's or consumer's /livez, /readyz and /metrics.")
    port: Port = Field(0, description="Port of the same; 0: a free one, logged at start.")
    drain_seconds: PositiveFloat = Field(10, description="Deadline of an orderly stop after SIGTERM.")
    log_format: Literal["auto", "text", "json"] = Field("auto", description="auto: text on a terminal, else JSON.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")


class Settings(SettingsSection):
    """All settings. Built by `neverstale.settings_sources.load`, never at import."""

    catalog: Path = Field(Path("catalog.toml"), description="The catalog file.")
    mongodb: MongoDB = MongoDB()
    kafka: Kafka = Kafka()
    redis: RedisSettings = RedisSettings()
    watcher: WatcherSettings = WatcherSettings()
    consumer: ConsumerSettings = ConsumerSettings()
    api: Api = Api()
    clients: Clients = Clients()
    limits: Limits = Limits()
    service: Service = Service()
