"""The reader answers hits alike, whatever is asked of them, and asks Redis once for all asks of a turn."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from neverstale.api.freshness.bound import Bounds
from neverstale.api.freshness.groups import GroupedFreshness
from neverstale.api.freshness.watermark import Evidence
from neverstale.api.reads.answer import ANYTHING, Answer, NotCached, Wish
from neverstale.api.reads.ask import Ask, FutureAsk
from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.bulkhead import Loads
from neverstale.api.reads.l1 import L1, Reading
from neverstale.api.reads.reader import BATCHES_UNDER_WAY, Reader
from neverstale.api.reads.source import DocumentSource, Part
from neverstale.catalog import Resource
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.errors import Outage
from neverstale.keys import Names, digest
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.redis.cache import Cache
from neverstale.redis.entries import etag_of
from neverstale.role.tasks import Tasks
from neverstale.settings import Api
from neverstale.versions import Version, to_hex
from tests.support.proving import no_proofs
from tests.support.sources import documents_of

THINGS = Resource(name="things", key_type="int", on_change="invalidate")  # type: ignore[call-arg]
BODY = b'{"a":1}'


class Shelf:
    """What Redis would return for the documents of `things`."""

    def __init__(self, floor: Version | None = 5) -> None:
        self.floor = floor
        self.held: dict[bytes, bytes | None] = {}
        self.reads: list[list[bytes]] = []
        self.outage = False
        self.source = documents_of(THINGS)
        self.source.read = self.read  # type: ignore[method-assign]

    async def read(self, asks: Sequence[Ask]) -> list[Part]:
        self.reads.append([ask.entry_key for ask in asks])
        if self.outage:
            raise Outage("redis", "test")
        return [Part(self.floor, {ask.entry_key: self.held.get(ask.entry_key) for ask in asks})]

    def put(self, key: int, state: bytes, version: Version) -> None:
        """An entry as Redis holds it; `state`: its letter, whether it was touched, and what its body is."""
        name = self.source.locate(key)[0]
        body = BODY if state[2:] == b"D" else b""
        header = state + to_hex(version).encode() * 2 + b"0" * 29 + digest(name, THINGS.shows)
        self.held[name] = header + (etag_of(BODY) if body else b"0" * 16) + body


class Known:
    """What is known of the age of hits."""

    lacks: frozenset[str] = frozenset()
    watches = DEFAULT_GROUP

    def of(self, source: str) -> "Known":
        return self

    def __init__(self, watermark: Version) -> None:
        self.marks = Bounds(PrimaryClock())
        self.watermark = watermark

    def evidence(self) -> Evidence:
        return Evidence(self.watermark, 0)

    def still_holds(self, evidence: Evidence) -> bool:
        return True

    def bound(self, complete: Version) -> float | None:
        return 1.0


def reader_of(source: DocumentSource, watermark: Version = 9) -> tuple[Reader, list[Ask]]:
    """A reader, and all asks that the cache did not answer."""
    tasks, api, missed = Tasks(), Api(), list[Ask]()
    loads = Loads(cast("Loader", None), api, Breaker("mongodb", 3, 60), tasks, no_proofs())
    freshness, cache = cast("GroupedFreshness", Known(watermark)), Cache(cast("Redis", None), Names("ns"))
    breaker, l1 = Breaker("redis", 3, 60), L1(0, 60)
    reader = Reader(cache, loads, freshness, breaker, api, tasks, Random(1), l1, [source])

    async def answer_rest(turn: Any, asks: Sequence[Ask], floor: Version | None) -> None:
        missed.extend(asks)
        for ask in asks:
            ask.refuse(NotCached("test"))

    reader._answer_rest = answer_rest  # type: ignore[method-assign]
    return reader, missed


STATES = (b"D0D", b"D1D", b"N0N", b"S0D", b"S1N", b"S0-", b"L0-")


@given(st.sampled_from(STATES), st.integers(1, 12), st.integers(1, 12), st.sampled_from((0, 4, 9)))
def test_a_hit_is_the_same_from_its_bytes_and_decoded(state: bytes, version: int, floor: int, watermark: int) -> None:
    """`Wish()` wishes for nothing, too; but only who has no wishes at all is answered from the bytes."""

    async def both() -> list[Answer | str]:
        shelf = Shelf(floor)
        shelf.put(1, state, version)
        reader, missed = reader_of(shelf.source, watermark)
        answers = await asyncio.gather(
            *(reader.get(shelf.source, 1, wish) for wish in (ANYTHING, Wish())), return_exceptions=True
        )
        assert len(shelf.reads) == 1
        assert len({(ask.how, ask.stale_since, ask.held) for ask in missed}) <= 1
        return [one if isinstance(one, Answer) else type(one).__name__ for one in answers]

    plain, decoded = asyncio.run(both())
    assert plain == decoded
    assert isinstance(plain, Answer) == (state[:1] in b"DN" and version >= floor)


async def test_all_asks_of_a_turn_leave_together() -> None:
    shelf = Shelf()
    for key in range(5):
        shelf.put(key, b"D1D", 7)
    reader, _ = reader_of(shelf.source)
    answers = await asyncio.gather(*(reader.get(shelf.source, key) for key in (0, 1, 2, 3, 4, 0)))
    assert [answer.body for answer in answers] == [BODY] * 6
    assert [len(names) for names in shelf.reads] == [6]


@pytest.mark.parametrize("floor", [5, None], ids=["an outage", "an unknown floor"])
async def test_where_redis_cannot_vouch_the_cache_is_bypassed(floor: Version | None) -> None:
    shelf = Shelf(floor)
    shelf.put(1, b"D1D", 7)
    shelf.outage = floor is not None
    reader, missed = reader_of(shelf.source)
    with pytest.raises(NotCached):
        await reader.get(shelf.source, 1)
    assert [ask.how for ask in missed] == ["bypass"]


@pytest.mark.parametrize(
    ("wish", "how"),
    [
        (Wish(max_age_seconds=2), "hit"),
        (Wish(max_age_seconds=0.5), "request"),
        (Wish(min_version=9), "hit"),
        (Wish(min_version=10), "request"),
        (Wish(no_cache=True), "request"),
        (Wish(only_if_cached=True), "hit"),
    ],
)
async def test_a_hit_that_will_not_do_is_held_and_read_again(wish: Wish, how: str) -> None:
    shelf = Shelf()
    shelf.put(1, b"D1D", 7)
    reader, missed = reader_of(shelf.source)
    if how == "hit":
        assert (await reader.get(shelf.source, 1, wish)).complete == 9
        return
    with pytest.raises(NotCached):
        await reader.get(shelf.source, 1, wish)
    (ask,) = missed
    assert (ask.how, ask.holds_document) == (how, True)


async def test_who_goes_away_takes_only_his_own_answer_with_him() -> None:
    shelf = Shelf()
    shelf.put(1, b"D1D", 7)
    reader, _ = reader_of(shelf.source)
    gone, stays = reader.ask(shelf.source, 1), reader.ask(shelf.source, 1)
    gone.cancel()
    assert (await stays).body == BODY


async def test_a_batch_that_cannot_begin_fails_its_asks_and_frees_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    shelf.put(1, b"D1D", 7)
    reader, _ = reader_of(shelf.source)
    with monkeypatch.context() as broken:
        broken.setattr(Known, "evidence", lambda self: 1 / 0)
        for _ in range(2 * BATCHES_UNDER_WAY):
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(reader.get(shelf.source, 1), 5)
    assert (await reader.get(shelf.source, 1)).body == BODY


class Noting(FutureAsk):
    """Notes whether it was answered from the bytes of an entry."""

    plainly = False

    def hit(self, entry: bytes, watermark: Version, reading: Reading | None) -> None:
        self.plainly = True
        super().hit(entry, watermark, reading)


@pytest.mark.parametrize("watermark", [0, 9])
async def test_without_a_watermark_each_hit_says_itself_how_old_it_is(watermark: Version) -> None:
    shelf = Shelf()
    shelf.put(1, b"D1D", 7)
    reader, _ = reader_of(shelf.source, watermark)
    ask = Noting(shelf.source, 1, ANYTHING, *shelf.source.locate(1))
    reader.start(ask)
    assert (await ask.future).complete == max(7, watermark)
    assert ask.plainly == (watermark > 0)
