"""URLs of Redis: of one server, of the sentinels that know which server is the master, or of a Redis Cluster.

`redis://`, `rediss://` and `unix://` are the client's own. Sentinels have addresses and a name for the master:

    redis+sentinel://USER:PASSWORD@SENTINEL:26379,SENTINEL:26379/MASTER/DATABASE

User, password and database are the master's. Of a cluster some nodes are named, which tell the others:

    redis+cluster://USER:PASSWORD@NODE:6379,NODE:6379

User and password are those of all nodes. `rediss+sentinel://` and `rediss+cluster://` speak TLS with all servers.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

SENTINEL_PORT: Final = 26379
NODE_PORT: Final = 6379


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
        tuple(_address(host, "sentinel", SENTINEL_PORT) for host in hosts.split(",")),
        unquote(master),
        int(database or 0),
        unquote(name) or None,
        unquote(password) or None,
        parts.scheme.startswith("rediss"),
    )


@dataclass(frozen=True, slots=True)
class ClusterUrl:
    """What a URL of a Redis Cluster says."""

    addresses: tuple[Address, ...]
    username: str | None
    password: str | None
    tls: bool


def cluster_of(url: str) -> ClusterUrl | None:
    """`None`: it is no URL of a cluster. Raises `ValueError`, whose words repeat nothing: it could be a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis+cluster", "rediss+cluster"):
        return None
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError("names a database, and a cluster has only one")
    return ClusterUrl(
        tuple(_address(host, "node", NODE_PORT) for host in hosts.split(",")),
        unquote(name) or None,
        unquote(password) or None,
        parts.scheme.startswith("rediss"),
    )


def _address(text: str, what: str, default: int) -> Address:
    """`host`, `host:port`, `[::1]:port`."""
    try:
        parts = urlsplit(f"//{text.strip()}")
        port = parts.port or default
    except ValueError:
        raise ValueError(f"names a {what} that is not host:port") from None
    if not parts.hostname:
        raise ValueError(f"names a {what} without a host")
    return Address(parts.hostname, port)
