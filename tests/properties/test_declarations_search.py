"""No interleaving of processes whose catalogs differ serves a body of the other one's: every state that two readers
and two refreshing consumers of different catalogs can reach on one entry, by the shipped scripts.

A body is the name of the process that made it. Versions are few, tokens are one for each process: who fills late does
so with the token that it was given.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import pytest

from neverstale.keys import digest
from neverstale.redis import entries
from neverstale.redis.entries import CorruptEntry, DeclaredOtherwise
from neverstale.redis.scripts import Name
from tests.properties.search import Found, Label, explore
from tests.support.lua_redis import LuaRedis, patched

KEY: Final = b"ns:things:d:i:1"
SHOWS: Final = {"old": "0ddba1", "new": "1e1e1e"}
TOKENS: Final = {"old": b"a" * 16, "new": b"b" * 16}
"""Of what a process does as reader; as consumer it has one of its own."""
HANDED: Final = {"old": b"1" * 16, "new": b"2" * 16}
NOW_MS: Final = 1_700_000_000_000
LEASE_MS: Final = 5_000
VERSIONS: Final = (1, 2)


def _hex(version: int) -> str:
    return f"{version:016x}"


def _body(process: str) -> bytes:
    return b'{"by":"%b"}' % process.encode()


class State(NamedTuple):
    entry: bytes | None
    leases: frozenset[bytes]
    """Tokens that were handed out and not used."""


class Mixed:
    """`overrides`: scripts that lack a rule; `salted`: whether digests say what is declared."""

    def __init__(self, overrides: Mapping[Name, str] | None = None, *, salted: bool = True) -> None:
        self._redis = LuaRedis(overrides, now_ms=NOW_MS)
        self._salted = salted

    def start(self) -> State:
        return State(None, frozenset())

    def steps(self, state: State) -> Iterator[tuple[Label, State]]:
        yield ("the entry is evicted",), state._replace(entry=None)
        if state.entry is not None:
            over = state.entry[:51] + b"%013d" % 1 + state.entry[64:]
            yield ("the lease runs out",), state._replace(entry=over)
        for process in SHOWS:
            yield self._lease(process, state)
            yield from self._fills(process, state)
            for version in VERSIONS:
                yield self._invalidate(process, version, state)

    def broken(self, state: State) -> bool:
        """Whether some process takes the other one's body for its own, or somebody's for damaged."""
        if state.entry is None:
            return False
        for process in SHOWS:
            try:
                entry = entries.decode(state.entry, self._digest(process))
            except DeclaredOtherwise:
                if entries.is_current(state.entry, self._digest(process), b"0" * 16, b"f" * 16):
                    return True
                continue
            except CorruptEntry:
                return True
            if entry.body is not None and entry.body != _body(process):
                return True
        return False

    def _digest(self, process: str) -> bytes:
        return digest(KEY, SHOWS[process]) if self._salted else digest(KEY)

    def _lease(self, process: str, state: State) -> tuple[Label, State]:
        token = TOKENS[process]
        (answer,), then = self._run(state, "lease", token, LEASE_MS, _hex(0), self._digest(process))
        held = state.leases | {token} if answer[0] == b"granted" else state.leases
        return ("{} asks: {}", process, answer[0].decode()), State(then, held)

    def _fills(self, process: str, state: State) -> Iterator[tuple[Label, State]]:
        for token in (TOKENS[process], HANDED[process]):
            if token not in state.leases:
                continue
            for version in VERSIONS:
                offer = (token, _hex(version), "D", 60_000, self._digest(process), b"e" * 16, _body(process))
                (answer,), then = self._run(state, "fill", *offer)
                label = ("{} fills with version {}: {}", process, version, answer.decode())
                yield label, State(then, state.leases - {token})

    def _invalidate(self, process: str, version: int, state: State) -> tuple[Label, State]:
        token = HANDED[process]
        letter, then = self._run(state, "invalidate", token, LEASE_MS, _hex(version), "r")
        held = state.leases | {token} if letter == b"r" else state.leases
        return ("a consumer ({}) applies {}: {}", process, version, letter.decode()), State(then, held)

    def _run(self, state: State, script: Name, *arguments: bytes | str | int) -> tuple[Any, bytes | None]:
        self._redis.restore(((KEY, (state.entry, None)),) if state.entry is not None else ())
        answer = self._redis.run(script, [KEY], arguments)
        then = self._redis.command("GET", KEY)
        return answer, then


def found(mixed: Mixed) -> Found:
    return explore(mixed)


def test_no_process_serves_what_another_one_declares() -> None:
    search = found(Mixed())
    assert search.trace is None, search.trace
    assert search.states > 100


DROPPED: Final = {
    "a digest that does not say what is declared": Mixed(salted=False),
    "a fill that keeps the digest of whoever held the entry before": Mixed(
        {"fill": patched("fill", "digest .. etag .. body,", "string.sub(header, 65, 80) .. etag .. body,")}
    ),
}


@pytest.mark.parametrize("dropped", DROPPED.values(), ids=DROPPED)
def test_without_one_rule_some_interleaving_does(dropped: Mixed) -> None:
    assert found(dropped).trace is not None
