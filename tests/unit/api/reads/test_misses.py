"""Waiting for others' fills: each waiter asks at moments of its own, less and less often."""

import itertools
from collections.abc import Sequence
from random import Random
from statistics import mean
from typing import cast

import pytest

from neverstale.api.freshness.bound import Bounds
from neverstale.api.reads.answer import ANYTHING, Answer
from neverstale.api.reads.ask import FutureAsk
from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.bulkhead import Loads
from neverstale.api.reads.bypass import Direct
from neverstale.api.reads.misses import FIRST_PAUSE, LONGEST_PAUSE, Misses
from neverstale.catalog import Resource
from neverstale.keys import KeyValue
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.redis.cache import Cache, Granted, Leases, Wait
from neverstale.role.tasks import Tasks
from neverstale.settings import Api
from neverstale.versions import Version
from tests.support.proving import no_proofs
from tests.support.sources import documents_of

THINGS = documents_of(Resource(name="things", key_type="int"))  # type: ignore[call-arg]
WAITERS = 40


class Busy:
    """A cache whose leases are always somebody else's."""

    def __init__(self) -> None:
        self.asked = 0

    async def lease(self, _: str, keys: Sequence[bytes], floor: Version, lease_ms: int, shows: str) -> Leases:
        self.asked += len(keys)
        return Leases(b"token", [Wait(lease_ms) for _ in keys], 1, 1)


class Unmarked(Busy):
    """A cache whose leases are ours, in a Redis that lacks the watermark: nothing may be filled."""

    async def lease(self, _: str, keys: Sequence[bytes], floor: Version, lease_ms: int, shows: str) -> Leases:
        return Leases(b"token", [Granted(None) for _ in keys], None, None)

    async def delete(self, keys: Sequence[bytes]) -> None:
        pass


class Ready(Loader):
    def __init__(self) -> None:
        self.calls = 0

    async def load(self, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        self.calls += 1
        return Snapshot(100, {f"i:{key}": b"{}" for key in keys})


class Waiter:
    """One process. Its clock goes on only while it sleeps."""

    def __init__(self, seed: int, cache: Busy | None = None) -> None:
        self.cache = cache or Busy()
        self.loader, self.now = Ready(), 0.0
        self.pauses: list[float] = []
        api, tasks = Api(), Tasks()
        self.loads = loads = Loads(self.loader, api, Breaker("mongodb", 3, 60), tasks, no_proofs())
        marks = Bounds(PrimaryClock())
        direct = Direct(loads, marks, api.demands, tasks)
        self.misses = Misses(cast("Cache", self.cache), loads, direct, marks, api, Random(seed), lambda: self.now)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def ask(self, monkeypatch: pytest.MonkeyPatch) -> Answer:
        ask = FutureAsk(THINGS, 1, ANYTHING, *THINGS.locate(1))
        with monkeypatch.context() as patched:
            patched.setattr("neverstale.api.reads.misses.asyncio.sleep", self.sleep)
            await self.misses.fetch(THINGS, [ask], 0)
        return await ask.future


async def test_waiters_never_ask_again_at_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    waiters = [Waiter(seed) for seed in range(WAITERS)]
    for waiter in waiters:
        await waiter.ask(monkeypatch)
    for turn in range(4):
        moments = sorted(sum(waiter.pauses[: turn + 1]) for waiter in waiters)
        assert len(set(moments)) == WAITERS
        assert moments[-1] - moments[0] > FIRST_PAUSE / 2


async def test_they_ask_less_and_less_often_but_not_too_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    waiters = [Waiter(seed) for seed in range(WAITERS)]
    for waiter in waiters:
        await waiter.ask(monkeypatch)
    means = [mean(waiter.pauses[turn] for waiter in waiters) for turn in range(5)]
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(means))
    assert max(max(waiter.pauses) for waiter in waiters) <= 1.5 * LONGEST_PAUSE
    assert all(waiter.cache.asked < 20 for waiter in waiters)


async def test_whoever_has_waited_long_enough_reads_mongodb_once_and_fills_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiter = Waiter(1)
    answer = await waiter.ask(monkeypatch)
    assert (answer.body, answer.detail, waiter.loader.calls) == (b"{}", "mongodb", 1)
    assert 0.5 <= waiter.now < 0.5 + 1.5 * LONGEST_PAUSE


async def test_who_has_a_document_is_known_although_it_could_not_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    waiter = Waiter(0, Unmarked())
    entry_key, _ = THINGS.locate(1)
    assert not waiter.loads.doorkeeper.knows(entry_key)
    await waiter.ask(monkeypatch)
    assert waiter.loads.doorkeeper.knows(entry_key)
