"""Section `redis`: where answers are kept."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PositiveInt,
    SecretStr,
)

from neverstale.misconfiguration import wrong
from neverstale.settings.redis_url import sentinel_of
from neverstale.settings.section import SettingsSection


def _redis_url(url: SecretStr) -> SecretStr:
    example = "e.g. redis://user:p%40ss@host:6379/0"
    try:
        if sentinel_of(url.get_secret_value()) is not None:
            return url
    except ValueError as error:
        raise wrong(str(error), "e.g. redis+sentinel://user:p%40ss@one:26379,two:26379/mymaster/0") from None
    try:
        parts = urlsplit(url.get_secret_value())
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    if not port_is_right:
        raise wrong("is not a URL of Redis", f"percent-encode user and password; {example}")
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise wrong("does not start with redis://, rediss://, unix:// or redis+sentinel://", example)
    if parts.scheme != "unix" and not parts.hostname:
        raise wrong("names no host", example)
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise wrong("has a path that is not the number of a database", example)
    return url


class RedisSettings(SettingsSection):
    url: Annotated[SecretStr, AfterValidator(_redis_url)] = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis://, rediss:// or unix:// URL, or redis+sentinel://HOST:26379,HOST:26379/MASTER/0.",
    )
    sentinel_username: str | None = Field(None, description="User of the sentinels themselves, if they have any.")
    sentinel_password: SecretStr | None = Field(None, description="Password of the sentinels themselves.")
    prefix: str = Field("ns", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="All keys of ours start with it.")
    read_timeout_ms: PositiveInt = Field(50, description="The API gives up on a command after this: an outage.")
    write_timeout_ms: PositiveInt = Field(2000, description="A consumer gives up on a batch after this.")
    connect_timeout_ms: PositiveInt = Field(250, description="Deadline of a new connection.")
    max_connections: PositiveInt = Field(64, description="Connections per process.")
