"""Applying a batch: the order of its steps, and what happens when Redis does not answer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from consumers.apply import Applier, Section
from consumers.records.batch import Batch, Folding
from consumers.refresh import HeldLease, Refresher
from consumers.registers import Registers
from consumers.replay import Gap, Replay
from neverstale.catalog import Resource
from neverstale.errors import Outage
from neverstale.kafka.events import Change, Event, Floor, Mark, Rebuilt
from neverstale.keys import Names
from neverstale.redis.cache import Account, Cache, Invalidated, Lacks, Reached
from neverstale.role.service import Health
from tests.unit.consumers.records.test_batch import CATALOG, NAMES, Partition, records


class NotingCache:
    """Notes what it is told, in order. Answers `letter` for every key, after as many outages as it is told."""

    def __init__(self, letter: str = "d", identity: str = "A", outages: int = 0) -> None:
        self.names: Names = NAMES
        self.told: list[tuple[Any, ...]] = []
        self.letter = letter
        self.identity = identity
        self.outages = outages
        self.no_watermarks = False
        self.no_reach = False
        self.begins: dict[int, int] = {}
        self.lacks: dict[int, Reached] = {}

    async def invalidate(
        self,
        applied: int,
        keys: Sequence[bytes],
        versions_and_refresh: Sequence[str],
        floors: Mapping[str, int],
        lease_ms: int,
        forget: Iterable[str],
        account: Account,
        *,
        whole: bool,
    ) -> Invalidated:
        self.told.append(("invalidate", applied, list(keys), dict(floors), sorted(forget)))
        if self.outages:
            self.outages -= 1
            raise Outage("redis", "TimeoutError")
        reached = self._reached(account) if whole and not self.no_reach else None
        return Invalidated(self.letter * len(keys), b"token", False, self.identity, reached)

    async def reach(self, account: Account, token: bytes) -> dict[int, Reached]:
        self.told.append(("reach",))
        if self.no_reach:
            raise Outage("redis", "OOM")
        return self._reached(account)

    def _reached(self, account: Account) -> dict[int, Reached]:
        self.begins = dict(account.begins)
        return {partition: self.lacks.get(partition, "reached") for partition in account.ends}

    async def set_watermarks(
        self, group: str, identity: str, partitions: int, marks: Mapping[int, tuple[int, int]]
    ) -> None:
        if self.no_watermarks:
            raise Outage("redis", "OOM")
        self.told.append(("watermarks", group, identity, partitions, dict(marks)))


class NotingRefresher:
    def __init__(self) -> None:
        self.offered: list[tuple[str, list[HeldLease]]] = []

    def offer(self, resource: Resource, leases: Sequence[HeldLease]) -> None:
        self.offered.append((resource.name, list(leases)))


class Bench:
    def __init__(self, cache: NotingCache) -> None:
        self.cache = cache
        self.refresher = NotingRefresher()
        self.health = Health()
        self.registers = Registers(cast("Cache", cache), CATALOG.collections, self._never, self.health)
        self.replay = Replay(cast("Cache", cache), "group", CATALOG.collections, self.health)
        self.replay.expect({2: 0})
        section = Section("group", CATALOG.collections, 3000)
        self.applier = Applier(
            cast("Cache", cache), self.registers, self.replay, cast("Refresher", self.refresher), section, self.health
        )

    async def _never(self) -> int:
        raise AssertionError("applying does not ask MongoDB")

    async def apply(self, batch: Batch, wanted: bool = True) -> bool:
        return await self.applier.apply(batch, lambda: wanted)


def fold(*given: Event | bytes | None) -> Batch:
    return Folding(CATALOG, NAMES).fold({Partition("t", 2): records(*given)})


CHANGE = Change("update", "shop", "stock", "i:1", 5, 1000, None)


async def test_watermarks_follow_the_invalidations_that_precede_their_marks() -> None:
    bench = Bench(NotingCache())
    assert await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)))
    invalidate, watermarks = bench.cache.told
    assert invalidate[:3] == ("invalidate", 5, [b"ns:stock:d:i:1"])
    assert watermarks == ("watermarks", "group", "A", 4, {2: (7, 700)})


async def test_what_redis_lacks_is_asked_in_the_same_round_trip_if_nothing_is_derived() -> None:
    bench = Bench(NotingCache())
    await bench.apply(fold(CHANGE))
    derived = fold(CHANGE)
    derived.rebuilt.append((2, Rebuilt("stock", "g", 4)))
    await bench.apply(derived)
    assert [step[0] for step in bench.cache.told] == ["invalidate", "invalidate", "reach"]


async def test_with_a_mark_every_register_is_looked_at_and_none_is_raised_for_it() -> None:
    bench = Bench(NotingCache())
    await bench.apply(fold(Floor("shop", "items", 6, "drop"), Mark(7, 700, 4, 1)))
    await bench.apply(fold(CHANGE))
    assert bench.cache.told[0] == ("invalidate", 6, [], {"items": 6, "orders": 0, "stock": 0}, [])
    assert bench.cache.told[-1] == ("invalidate", 5, [b"ns:stock:d:i:1"], {}, [])


async def test_no_watermark_is_written_where_redis_lacks_records() -> None:
    bench = Bench(NotingCache())
    bench.cache.lacks[2] = Lacks(17)
    bench.replay.expect({2: 20})
    assert await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)))
    assert [step[0] for step in bench.cache.told] == ["invalidate"]
    assert bench.replay.take() == {2: Gap(17, 20)}


async def test_no_watermark_is_written_where_another_redis_took_the_batch() -> None:
    bench = Bench(NotingCache())
    bench.cache.lacks[2] = "elsewhere"
    assert await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)))
    assert [step[0] for step in bench.cache.told] == ["invalidate"]
    assert bench.replay.take() == {}


async def test_no_watermark_is_written_when_redis_does_not_say_what_it_lacks() -> None:
    bench = Bench(NotingCache())
    bench.cache.no_reach = True
    assert await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)))
    assert [step[0] for step in bench.cache.told] == ["invalidate", "reach"]
    assert bench.health.parts["redis"] == "OOM"


async def test_a_watermark_that_cannot_be_written_waits_for_the_next_mark() -> None:
    bench = Bench(NotingCache())
    bench.cache.no_watermarks = True
    assert await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)))


async def test_an_outage_holds_the_same_batch_until_it_is_applied() -> None:
    bench = Bench(NotingCache(outages=2))
    assert await bench.apply(fold(CHANGE))
    assert [step[0] for step in bench.cache.told] == ["invalidate"] * 3
    assert bench.health.parts["redis"] is None


async def test_a_batch_that_is_no_longer_wanted_is_given_up() -> None:
    bench = Bench(NotingCache(outages=99))
    assert not await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)), wanted=False)
    assert len(bench.cache.told) == 1
    assert bench.health.parts["redis"] == "TimeoutError"


async def test_leases_go_to_the_refresher_with_the_version_of_the_batch() -> None:
    bench = Bench(NotingCache(letter="r"))
    later = Change("update", "shop", "orders", "s:a", 9, 1000, None)
    await bench.apply(fold(CHANGE, later))
    assert bench.refresher.offered == [
        ("orders", [HeldLease(b"ns:orders:d:s:a", "s:a", b"token", 9)]),
        ("stock", [HeldLease(b"ns:stock:d:i:1", "i:1", b"token", 9)]),
    ]


async def test_what_lost_records_may_concern_is_forgotten() -> None:
    bench = Bench(NotingCache())
    await bench.apply(Folding(CATALOG, NAMES).lost({2: 40}))
    assert bench.cache.told[0][:5] == ("invalidate", 0, [], {}, ["items", "orders", "stock"])


async def test_what_comes_after_all_was_voided_follows_on_nothing() -> None:
    bench = Bench(NotingCache())
    await bench.apply(fold(CHANGE))
    assert bench.cache.begins == {2: 0}
    voided = fold(CHANGE)
    voided.forget = set(CATALOG.collections)
    await bench.apply(voided)
    assert bench.cache.begins == {}


async def test_a_batch_that_needs_nothing_of_redis_does_not_ask_it() -> None:
    bench = Bench(NotingCache(outages=99))
    assert await bench.apply(fold(Change("update", "shop", "elsewhere", "s:a", 5, 1000, None)))
    assert bench.cache.told == []
