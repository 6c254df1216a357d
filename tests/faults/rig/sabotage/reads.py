"""Filling and sharing reads: the rules of the API's misses."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from tests.faults.rig.sabotage.rules import Patches, replaced, rule, script_changed


def _fills_anyway(*refusals: str) -> AbstractContextManager[Any]:
    """What the script refuses for these reasons is stored all the same."""
    from neverstale.keys import digest
    from neverstale.redis.cache import Cache, Fill
    from neverstale.redis.entries import NO_ETAG, etag_of
    from neverstale.versions import to_hex

    offer = Cache.fill

    def entry(fill: Fill) -> bytes:
        kind = b"D" if fill.body is not None else b"N"
        version, etag = to_hex(fill.version).encode(), etag_of(fill.body) if fill.body is not None else NO_ETAG
        header = (kind, b"0", kind, version, version, b"0" * 16, b"0" * 13, digest(fill.key, fill.shows), etag)
        return b"".join((*header, fill.body or b""))

    async def fill(self: Cache, fills: Sequence[Fill]) -> list[str]:
        results = await offer(self, fills)
        for each, result in zip(fills, results, strict=True):
            if result in refusals:
                await self.send(("SET", each.key, entry(each), "PX", each.ttl_ms))
        return ["filled" if result in refusals else result for result in results]

    return replaced("neverstale.redis.cache:Cache.fill", fill)


@rule("a plain SET fills")
def _plain_set() -> Patches:
    yield _fills_anyway("missing", "token", "version")


@rule("a missing entry counts as fresh")
def _missing_is_fresh() -> Patches:
    yield _fills_anyway("missing")


@rule("fills are not compared")
def _fills_not_compared() -> Patches:
    yield script_changed(
        "fill",
        ("if string.sub(header, 36, 51) ~= token then", "if false then"),
        ("if state == 'S' and version < held then", "if false then"),
        ("elseif version <= held then", "elseif false then"),
    )


def _no_flights() -> AbstractContextManager[Any]:
    """Nobody finds the flight of another."""
    from neverstale.api.reads.misses import Misses

    class Forgetful(dict[bytes, Any]):
        def get(self, *_: Any) -> None:
            return None

    start = Misses.__init__

    def forgetful(self: Misses, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options)
        self._flights = Forgetful()

    return replaced("neverstale.api.reads.misses:Misses.__init__", forgetful)


@rule("no single flight")
def _no_single_flight() -> Patches:
    yield _no_flights()


@rule("leases are always granted")
def _leases_granted() -> Patches:
    yield script_changed("lease", ("if left > 0 and left <= LONGEST_MS then", "if false then"))


@rule("every miss reads by itself")
def _misses_alone() -> Patches:
    """No flight, no lease, and no snapshot for several."""
    from neverstale.api.reads.reader import Reader
    from neverstale.role.tasks import at_once

    answer = Reader._answer_rest

    async def one_by_one(self: Reader, turn: Any, asks: Any, floor: Any) -> None:
        await at_once(*(answer(self, turn, [ask], floor) for ask in asks))

    yield _no_flights()
    yield from _leases_granted()
    yield replaced("neverstale.api.reads.reader:Reader._answer_rest", one_by_one)
    yield replaced("neverstale.api.reads.source:KEYS_A_READ", 1)


@rule("all absences are kept")
def _absences_kept() -> Patches:
    yield replaced("neverstale.api.reads.unknown_keys:Doorkeeper.admits", lambda *_: True)


@rule("made-up ids take all places")
def _made_up_ids_are_known() -> Patches:
    yield replaced("neverstale.api.reads.unknown_keys:Doorkeeper.knows", lambda *_: True)


@rule("the bound is ignored")
def _bound_ignored() -> Patches:
    """Every answer says that it misses nothing."""
    from neverstale.api.freshness.bound import Bounds

    bound = Bounds.bound

    def boast(self: Bounds, complete: int) -> float | None:
        return None if bound(self, complete) is None else 0.0

    yield replaced("neverstale.api.freshness.bound:Bounds.bound", boast)


@rule("reads of MongoDB prove their age")
def _marks_alone() -> Patches:
    async def nothing(_: Any) -> None:
        pass

    yield replaced("neverstale.api.freshness.proofs:Proofs.ready", nothing)
    yield replaced("neverstale.api.freshness.proofs:Proofs.expect", lambda _: None)
