"""The shipped scripts as functions from what Redis held to what it answers and holds then.

Each distinct call runs the Lua once; the search makes the same few thousand calls millions of times.
"""

from collections.abc import Mapping
from typing import Any, Final

from neverstale.redis.scripts import Name
from tests.properties.protocol_state import DEAD, LIVE, NEW, Bytes, text_of
from tests.support.lua_redis import LuaRedis

ENTRY: Final = b"entry"
APPLIED: Final = b"applied"
FLOOR: Final = b"floor"
DIGEST: Final = b"d" * 16
ETAG: Final = b"e" * 16
NOTHING: Final = b"0" * 16
NOW_MS: Final = 1_700_000_000_000
LEASE_MS: Final = 5_000
LEASE_RUNS: Final = b"%013d" % (NOW_MS + LEASE_MS)
LEASE_OVER: Final = b"%013d" % NOW_MS


class ProtocolScripts:
    """`overrides` replaces scripts by name, to see what one of their rules is good for."""

    def __init__(self, overrides: Mapping[Name, str] | None = None) -> None:
        self._redis = LuaRedis(overrides, now_ms=NOW_MS)
        self._remembered: dict[tuple[Any, ...], tuple[Any, tuple[Bytes, ...]]] = {}

    def lease(self, entry: Bytes, floor: int) -> tuple[int | str, Bytes]:
        """`granted` or `wait`, or the version at which the value was read that is served; and the entry then."""
        (answer,), (then,) = self._run("lease", ((ENTRY, entry),), NEW, LEASE_MS, text_of(floor), DIGEST)
        if answer[0] == b"entry":
            return int(answer[1][96:], 16), then
        return answer[0].decode(), _canonical(then)

    def fill(self, entry: Bytes, live: int, s: int) -> tuple[str, Bytes]:
        """A fill with what a snapshot read at s finds. The body is s; every second version is an absence."""
        token, kind, version = LIVE if live else DEAD, b"D" if s % 2 else b"N", text_of(s)
        (answer,), (then,) = self._run("fill", ((ENTRY, entry),), token, version, kind, 60_000, DIGEST, ETAG, version)
        return answer.decode(), _canonical(then)

    def invalidate(self, entry: Bytes, t: int, refresh: bytes) -> tuple[str, Bytes]:
        answer, (then,) = self._run("invalidate", ((ENTRY, entry),), NEW, LEASE_MS, text_of(t), refresh)
        return answer.decode(), _canonical(then)

    def lift(self, register: Bytes, t: int) -> Bytes:
        _, (then,) = self._run("raise", ((APPLIED, register),), text_of(t))
        return then

    def claim(self, applied: Bytes, floor: Bytes) -> tuple[Bytes, Bytes]:
        _, (applied, floor) = self._run("claim", ((APPLIED, applied), (FLOOR, floor)), NEW, LEASE_MS)
        return applied, floor

    def establish(self, applied: Bytes, floor: Bytes, nonce: int, present: int) -> tuple[Bytes, Bytes]:
        text, version = text_of(nonce) if nonce else DEAD, text_of(present)
        _, (applied, floor) = self._run("establish", ((APPLIED, applied), (FLOOR, floor)), text, version, version)
        return applied, floor

    def _run(
        self, script: Name, held: tuple[tuple[bytes, Bytes], ...], *args: bytes | int
    ) -> tuple[Any, tuple[Bytes, ...]]:
        """The answer of a script on these keys, and what they hold then. Times to live are left out."""
        call = (script, held, args)
        result = self._remembered.get(call)
        if result is None:
            self._redis.restore(tuple((key, (value, None)) for key, value in held if value is not None))
            answer = self._redis.run(script, [key for key, _ in held], args)
            result = (answer, tuple(self._redis.command("GET", key) for key, _ in held))
            self._remembered[call] = result
        return result


def _canonical(entry: Bytes) -> Bytes:
    """Rename a new token; cut off what lies under a stale entry, which decides nothing."""
    if entry is None or entry[:1] in b"DN":
        return entry
    token = LIVE if entry[35:51] == NEW else entry[35:51]
    return entry[:2] + b"-" + entry[3:19] + NOTHING + token + entry[51:80] + NOTHING
