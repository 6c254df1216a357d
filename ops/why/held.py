"""What the processes of the API answer, asked as anybody may ask them: for what they have, and nothing else.

A process that has it in Redis only will have it in memory afterwards, as after any reader's question. All workers of
one API share an address, and the system chooses which of them takes a connection; so each address is asked more
often than it has workers, and different answers are told apart.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final
from urllib.parse import urlsplit

from neverstale.ops.http_client import Connection, HttpAnswer
from neverstale.ops.redis.roles import RoleStatus
from neverstale.role.service import service_url

SECONDS: Final = 3.0
ASKED: Final = 3
"""Times that each worker is asked for, in the mean."""
ANY: Final = frozenset(("0.0.0.0", "::"))


@dataclass(frozen=True, slots=True)
class Held:
    """What one process, or several alike, would answer now."""

    url: str
    status: int | None
    """504: nothing that it may answer without MongoDB; `None`: it does not answer at all."""
    source: str
    """`l1`: its own memory, `l2`: Redis, `mongodb`; empty: not told."""
    version: str | None
    bound: str | None
    """Seconds, or `unknown`."""
    digest: str | None
    """16 hex digits of the body, as Redis has them of the same body."""

    @property
    def answers(self) -> bool:
        return self.status in (200, 404) and self.version is not None


async def held_by_all(roles: Sequence[RoleStatus], path: str, own_lines: Sequence[str]) -> list[Held]:
    """The different answers of all processes. `own_lines`: header lines that say who asks."""
    addresses = addresses_of(roles)
    asked = [address for address in sorted(set(addresses)) for _ in range(1 + ASKED * (addresses.count(address) - 1))]
    answers = await asyncio.gather(*(ask(address, path, "only-if-cached", own_lines) for address in asked))
    different = {(one.url, one.status, one.version, one.digest): one for one, _ in answers}
    return list(different.values())


async def ask(url: str, path: str, wish: str, own_lines: Sequence[str]) -> tuple[Held, bytes]:
    """One answer, over a connection of its own, and its body."""
    try:
        connection = await Connection.open(url)
        try:
            answer = await connection.get(path, SECONDS, f"Cache-Control: {wish}", "Connection: close", *own_lines)
        finally:
            connection.close()
    except (OSError, TimeoutError):
        return Held(url, None, "", None, None, None), b""
    return _held(url, answer), answer.body


def _held(url: str, answer: HttpAnswer) -> Held:
    headers = answer.headers
    detail = headers.get("cache-status", "").partition("detail=")[2]
    digest = headers.get("etag", "").strip('W/"') or None
    if digest is None and answer.status == 200:
        digest = blake2b(answer.body, digest_size=8).hexdigest()
    bound = headers.get("neverstale-bound")
    return Held(url, answer.status, detail, headers.get("neverstale-version"), bound, digest)


def addresses_of(roles: Sequence[RoleStatus]) -> list[str]:
    """Where the processes of the API can be reached; once for each."""
    found = [address_of(role) for role in roles if role.role == "api"]
    return [address for address in found if address is not None]


def address_of(role: RoleStatus) -> str | None:
    """Where a role can be reached; one that listens on every address of its host says so by no address. `None`: it
    serves nowhere, or somebody else has written its card."""
    return _reached(role, role.url)


def service_address_of(role: RoleStatus) -> str | None:
    """Where it answers operators."""
    return _reached(role, role.service_url or role.url)


def _reached(role: RoleStatus, url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme != "http" or not host or not port:
        return None
    return service_url(role.host if host in ANY else host, port)
