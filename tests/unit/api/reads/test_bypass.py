"""Who shares a read of MongoDB that is made on demand, with a loader that answers when it is told to."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from neverstale.api.freshness.bound import Bounds
from neverstale.api.reads.answer import ANYTHING, Answer, DemandRefused, How, Wish
from neverstale.api.reads.ask import Ask, FutureAsk
from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.bulkhead import Loads
from neverstale.api.reads.bypass import Direct
from neverstale.catalog import Resource
from neverstale.errors import Outage
from neverstale.keys import KeyValue
from neverstale.mongodb.loader import Loader, Snapshot, VersionInFuture
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.role.tasks import Tasks
from neverstale.settings import Api, Demands
from neverstale.versions import Version
from tests.support.proving import no_proofs
from tests.support.sources import documents_of
from tests.support.waiting import eventually

THINGS = documents_of(Resource(name="things", key_type="int"))  # type: ignore[call-arg]
NOW = Wish(no_cache=True)


@dataclass
class Issued:
    keys: list[KeyValue]
    at_least: Version
    number: int
    """In the order of all that happens here."""
    end: asyncio.Event = field(default_factory=asyncio.Event)


class Numbered(Loader):
    """Notes when it is asked. Each snapshot has the version that the database had reached by then."""

    def __init__(self) -> None:
        self.calls: list[Issued] = []
        self.happened = 0
        self.reached = 1000
        self.error: Exception | None = None

    def tick(self) -> int:
        self.happened += 1
        return self.happened

    async def load(self, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        call = Issued(list(keys), at_least, self.tick())
        self.calls.append(call)
        version = self.reached + call.number
        if at_least > version:
            raise VersionInFuture(version)
        await call.end.wait()
        if self.error is not None:
            raise self.error
        return Snapshot(max(version, at_least), {f"i:{key}": b"%d" % call.number for key in keys})


def asking(key: int, wish: Wish = NOW, how: How = "request") -> FutureAsk:
    ask = FutureAsk(THINGS, key, wish)
    ask.how = how
    return ask


class Desk:
    """Where asks are handed in."""

    def __init__(self, demands: Demands = "limited", **api: Any) -> None:
        self.loader, self.tasks = Numbered(), Tasks()
        settings = Api(demands=demands, **api)
        self.marks = Bounds(PrimaryClock())
        loads = Loads(self.loader, settings, Breaker("mongodb", 10**9, 60), self.tasks, no_proofs())
        self.direct = Direct(loads, self.marks, demands, self.tasks)
        self.arrived: dict[Ask, int] = {}

    def ask(self, key: int = 1, wish: Wish = NOW, how: Any = "request") -> "asyncio.Future[Answer]":
        ask = asking(key, wish, how)
        self.arrived[ask] = self.loader.tick()
        self.tasks.start(self.direct.read([ask]), "test")
        return ask.future

    async def issued(self, count: int) -> None:
        async def are() -> bool:
            return len(self.loader.calls) >= count

        await eventually(are, f"{count} reads are issued")

    def end(self, *numbers: int) -> None:
        for number in numbers or range(len(self.loader.calls)):
            self.loader.calls[number].end.set()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next read does not leave before the one before has come back."""
    monkeypatch.setattr("neverstale.api.reads.bypass.SHARE_SECONDS", 60)


@pytest.mark.usefixtures("patient")
async def test_all_that_insist_while_a_key_is_being_read_share_the_next_read() -> None:
    desk = Desk()
    first = desk.ask()
    await desk.issued(1)
    others = [desk.ask() for _ in range(100)]
    await asyncio.sleep(0)
    desk.end(0)
    await first
    await desk.issued(2)
    desk.end(1)
    answers = await asyncio.gather(*others)
    assert {answer.body for answer in answers} == {b"%d" % desk.loader.calls[1].number}
    assert len(desk.loader.calls) == 2


@pytest.mark.usefixtures("patient")
async def test_those_that_come_before_a_read_is_issued_share_it() -> None:
    desk = Desk(mongodb_concurrency=1)
    other = desk.ask(9)
    await desk.issued(1)
    waiting = [desk.ask() for _ in range(100)]
    await asyncio.sleep(0)
    desk.end(0)
    await desk.issued(2)
    desk.end()
    await asyncio.gather(other, *waiting)
    assert [call.keys for call in desk.loader.calls] == [[9], [1]]


@pytest.mark.usefixtures("patient")
async def test_who_does_not_insist_takes_the_read_that_is_under_way() -> None:
    desk = Desk()
    first = desk.ask()
    await desk.issued(1)
    others = [desk.ask(wish=wish) for wish in (ANYTHING, Wish(min_version=0, stale_if_error_seconds=5))]
    await asyncio.sleep(0)
    desk.end()
    await asyncio.gather(first, *others)
    assert len(desk.loader.calls) == 1
    assert [(await other).collapsed for other in others] == [True, True]


@pytest.mark.usefixtures("patient")
async def test_a_version_is_met_by_a_read_under_way_that_asks_for_it() -> None:
    desk = Desk()
    desk.marks.note(900, 0)
    first = desk.ask()
    await desk.issued(1)
    desk.marks.note(950, 0)
    met, unmet = desk.ask(wish=Wish(min_version=900)), desk.ask(wish=Wish(min_version=950))
    await asyncio.sleep(0)
    desk.end(0)
    await asyncio.gather(first, met)
    await desk.issued(2)
    desk.end(1)
    assert (await unmet).version >= 950
    assert [call.at_least for call in desk.loader.calls] == [900, 950]


async def test_a_slow_read_holds_up_nobody_for_long() -> None:
    desk = Desk()
    slow = desk.ask()
    await desk.issued(1)
    quick = [desk.ask() for _ in range(5)]
    await desk.issued(2)
    desk.end(1)
    await asyncio.gather(*quick)
    assert not slow.done()
    desk.end(0)
    await slow
    assert len(desk.loader.calls) == 2


@pytest.mark.usefixtures("patient")
async def test_an_error_reaches_all_that_wait_for_the_read_and_the_next_is_made_all_the_same() -> None:
    desk = Desk()
    first = desk.ask()
    await desk.issued(1)
    joined, late = desk.ask(wish=ANYTHING), desk.ask()
    await asyncio.sleep(0)
    desk.loader.error = Outage("mongodb", "test")
    desk.end(0)
    for future in (first, joined):
        with pytest.raises(Outage):
            await future
    desk.loader.error = None
    await desk.issued(2)
    desk.end(1)
    assert (await late).body is not None


@pytest.mark.usefixtures("patient")
async def test_nonsense_is_refused_and_harms_nobody() -> None:
    desk = Desk(mongodb_concurrency=4)
    wishes = [Wish(min_version=10**9 + number) for number in range(300)]
    bad = [desk.ask(wish=wish) for wish in wishes]
    good = [desk.ask(wish=wish) for wish in (NOW, Wish(min_version=500))]

    async def all_ended() -> bool:
        desk.end()
        return all(future.done() for future in (*bad, *good))

    await eventually(all_ended, "all are answered")
    assert {type(future.exception()) for future in bad} == {VersionInFuture}
    assert all(future.result().version >= 500 for future in good)
    assert len(desk.loader.calls) <= 8


@pytest.mark.usefixtures("patient")
async def test_an_error_of_one_key_is_not_shared_by_those_that_are_read_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk()
    load = Numbered.load

    async def picky(loader: Numbered, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        if 5 in keys:
            raise OverflowError("beyond 64 bits")
        return await load(loader, resource, keys, at_least)

    monkeypatch.setattr(Numbered, "load", picky)
    asks = [asking(key) for key in range(8)]
    futures = [ask.future for ask in asks]
    desk.tasks.start(desk.direct.read(asks), "test")

    async def all_ended() -> bool:
        if desk.loader.calls:
            desk.end()
        return all(future.done() for future in futures)

    await eventually(all_ended, "all are answered")
    assert [key for key, future in enumerate(futures) if future.exception() is not None] == [5]


@pytest.mark.usefixtures("patient")
async def test_where_nobody_may_demand_a_read_it_is_refused() -> None:
    desk = Desk("none")
    with pytest.raises(DemandRefused):
        await desk.ask()
    assert desk.loader.calls == []
    because_redis_is_away = desk.ask(how="bypass")
    await desk.issued(1)
    desk.end()
    await because_redis_is_away


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_insists_is_answered_by_a_read_that_was_issued_later(seed: int) -> None:
    """Asks of all kinds come at random moments, and reads end in any order: each is given what it demands."""
    desk, dice = Desk(mongodb_concurrency=2, demanded_percent=100, queue_deadline_ms=60_000), Random(seed)
    futures = {}
    for _ in range(150):
        kind = dice.randrange(4)
        version = dice.randrange(900, 1000 + desk.loader.happened)
        wish = (NOW, ANYTHING, Wish(max_age_seconds=0), Wish(min_version=version))[kind]
        before = set(desk.arrived)
        future = desk.ask(dice.randrange(3), wish, dice.choice(["request", "bypass"]))
        (ask,) = set(desk.arrived) - before
        futures[ask] = future
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        open_calls = [number for number, call in enumerate(desk.loader.calls) if not call.end.is_set()]
        if open_calls and dice.random() < 0.4:
            desk.end(dice.choice(open_calls))

    async def all_ended() -> bool:
        if desk.loader.calls:
            desk.end()
        return all(future.done() for future in futures.values())

    await eventually(all_ended, "all are answered")
    for ask, future in futures.items():
        answer = await future
        assert answer.version >= ask.wish.min_version
        assert answer.body is not None
        if ask.wish.insists:
            assert int(answer.body) > desk.arrived[ask], "issued before it was asked for"
    assert len(desk.loader.calls) < len(futures)
