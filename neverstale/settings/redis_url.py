"""URLs of Redis: of one server, or of the sentinels that know which server is the master.

`redis://`, `rediss://` and `unix://` are the client's own. Sentinels have addresses and a name for the master:

    redis+sentinel://USER:PASSWORD@SENTINEL:26379,SENTINEL:26379/MASTER/DATABASE

User, password and database are the master's. `rediss+sentinel://` speaks TLS with master and sentinels.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

SENTINEL_PORT: Final = 26379


class Address(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Sentinel:
    """What a URL of sentinels says."""

    addresses: tuple[Address, ...]
    master: str
    database: int
    username: str | None
    password: str | None
    tls: bool


def sentinel_of(url: str) -> Sentinel | None:
    """`None`: it is a URL of one server. Raises `ValueError`, whose words repeat nothing: it could be a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis+sentinel", "rediss+sentinel"):
        return None
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    master, _, database = parts.path.removeprefix("/").removesuffix("/").partition("/")
    if not master or "@" in master:
        raise ValueError("names no master behind the sentinels")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError("has a path that does not end in the number of a database")
    return Sentinel(
        tuple(_address(host) for host in hosts.split(",")),
        unquote(master),
        int(database or 0),
        unquote(name) or None,
        unquote(password) or None,
        parts.scheme.startswith("rediss"),
    )


def _address(text: str) -> Address:
    """`host`, `host:port`, `[::1]:port`."""
    try:
        parts = urlsplit(f"//{text.strip()}")
        port = parts.port or SENTINEL_PORT
    except ValueError:
        raise ValueError("names a sentinel that is not host:port") from None
    if not parts.hostname:
        raise ValueError("names a sentinel without a host")
    return Address(parts.hostname, port)
