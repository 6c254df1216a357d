"""Section `redis`: where answers are kept."""

from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PositiveInt,
    SecretStr,
    model_validator,
)

from neverstale.misconfiguration import wrong
from neverstale.settings.redis_url import cluster_of, sentinel_of
from neverstale.settings.section import (
    CaFile,
    CertFile,
    CheckHostname,
    KeyFile,
    KeyPassword,
    SettingsSection,
    refuse_wrong_tls,
)


def _redis_url(url: SecretStr) -> SecretStr:
    example = "e.g. redis://user:p%40ss@host:6379/0"
    try:
        if sentinel_of(url.get_secret_value()) is not None:
            return url
    except ValueError as error:
        raise wrong(str(error), "e.g. redis+sentinel://user:p%40ss@one:26379,two:26379/mymaster/0") from None
    try:
        if cluster_of(url.get_secret_value()) is not None:
            return url
    except ValueError as error:
        raise wrong(str(error), "e.g. redis+cluster://user:p%40ss@one:6379,two:6379") from None
    try:
        parts = urlsplit(url.get_secret_value())
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    if not port_is_right:
        raise wrong("is not a URL of Redis", f"percent-encode user and password; {example}")
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise wrong(
            "does not start with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://", example
        )
    if parts.scheme != "unix" and not parts.hostname:
        raise wrong("names no host", example)
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise wrong("has a path that is not the number of a database", example)
    if any(option.startswith("ssl_") for option in parse_qs(parts.query, keep_blank_values=True)):
        raise wrong("has options of TLS", "give them as redis.ssl_cafile, redis.ssl_certfile … instead")
    return url


class RedisSettings(SettingsSection):
    url: Annotated[SecretStr, AfterValidator(_redis_url)] = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis://, rediss:// or unix:// URL, redis+sentinel://HOST:26379,HOST:26379/MASTER/0, or "
        "redis+cluster://HOST:6379,HOST:6379.",
    )
    sentinel_username: str | None = Field(None, description="User of the sentinels themselves, if they have any.")
    sentinel_password: SecretStr | None = Field(None, description="Password of the sentinels themselves.")
    ssl_cafile: CaFile = None
    ssl_certfile: CertFile = None
    ssl_keyfile: KeyFile = None
    ssl_key_password: KeyPassword = None
    ssl_check_hostname: CheckHostname = True
    cells: Literal["one", "partition"] | None = Field(
        None,
        description="`partition`: each partition's documents, and what is derived of each resource, have a cell of "
        "their own, which a Redis Cluster needs; `one`: all is one cell. Default: what the URL needs.",
    )
    prefix: str = Field("ns", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="All keys of ours start with it.")
    read_timeout_ms: PositiveInt = Field(50, description="The API gives up on a command after this: an outage.")
    write_timeout_ms: PositiveInt = Field(2000, description="A consumer gives up on a batch after this.")
    connect_timeout_ms: PositiveInt = Field(250, description="Deadline of a new connection.")
    max_connections: PositiveInt = Field(64, description="Connections per process.")

    @property
    def layout(self) -> Literal["one", "partition"]:
        """How keys are laid out (`neverstale.redis.cells`)."""
        return self.cells or ("partition" if self.is_cluster else "one")

    @property
    def is_cluster(self) -> bool:
        return cluster_of(self.url.get_secret_value()) is not None

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        used = self.url.get_secret_value().startswith(("rediss:", "rediss+sentinel:", "rediss+cluster:"))
        if self.is_cluster and self.cells == "one":
            raise wrong("cannot be `one` in a Redis Cluster", "remove it, or set it to `partition`", "cells")
        refuse_wrong_tls(self, used=used, remedy="let redis.url begin with rediss://, or remove it")
        return self
