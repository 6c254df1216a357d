"""The bulkhead in front of MongoDB, with a loader that answers when it is told to."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.bulkhead import LaneName, Loads
from neverstale.api.reads.source import KEYS_A_READ
from neverstale.catalog import Resource
from neverstale.errors import NeverstaleError, Outage, Overloaded, Refused
from neverstale.keys import KeyValue
from neverstale.mongodb.loader import Loader, Snapshot, VersionInFuture
from neverstale.role.tasks import Tasks
from neverstale.settings import Api
from neverstale.versions import Version
from tests.support.proving import no_proofs
from tests.support.sources import documents_of
from tests.support.waiting import eventually

THINGS = documents_of(Resource(name="things", key_type="int"))  # type: ignore[call-arg]
OTHERS = documents_of(Resource(name="others", key_type="int"))  # type: ignore[call-arg]

Call = tuple[str, list[KeyValue], Version]


class HeldLoader(Loader):
    """Notes what it is asked for and answers only once `release` is set."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.release = asyncio.Event()
        self.error: Exception | None = None

    async def load(self, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        self.calls.append((resource.name, list(keys), at_least))
        await self.release.wait()
        if self.error is not None:
            raise self.error
        return Snapshot(max(at_least, 100), {f"i:{key}": b"{}" for key in keys})


class ClusterLoader(HeldLoader):
    """Has reached a version."""

    def __init__(self, reached: Version) -> None:
        super().__init__()
        self.reached = reached

    async def load(self, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        self.error = VersionInFuture(self.reached) if at_least > self.reached else None
        return await super().load(resource, keys, at_least)


def loads_of(loader: Loader, *, breaker: Breaker | None = None, **api: Any) -> Loads:
    return Loads(loader, Api(**api), breaker or Breaker("mongodb", 3, 60), Tasks(), no_proofs())


def lane_of(unknown: int) -> LaneName:
    return "unknown" if unknown else "known"


async def under_way(loader: HeldLoader, count: int) -> None:
    async def are() -> bool:
        return len(loader.calls) == count

    await eventually(are, f"{count} reads are under way")


async def test_only_so_many_reads_are_under_way_at_once() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=2)
    reads = [asyncio.create_task(loads.load(THINGS, [key], 0)) for key in range(10)]
    await under_way(loader, 2)
    loader.release.set()
    await asyncio.gather(*reads)


async def test_reads_that_wait_are_gathered_into_one_of_the_highest_version() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=1)
    first = asyncio.create_task(loads.load(THINGS, [0], 0))
    await under_way(loader, 1)
    waiting = [asyncio.create_task(loads.load(THINGS, [key, 7], key)) for key in (1, 2, 3)]
    other = asyncio.create_task(loads.load(OTHERS, [9], 5))
    await asyncio.sleep(0)
    loader.release.set()
    snapshots = await asyncio.gather(first, *waiting, other)
    assert loader.calls[1:] == [("things", [1, 7, 2, 3], 3), ("others", [9], 5)]
    assert all("i:7" in snapshot.bodies for snapshot in snapshots[1:4])


async def test_a_gathered_read_is_not_larger_than_one_may_be() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=1)
    first = asyncio.create_task(loads.load(THINGS, [0], 0))
    await under_way(loader, 1)
    waiting = [
        asyncio.create_task(loads.load(THINGS, range(start, start + 200), 0)) for start in range(1000, 2000, 200)
    ]
    await asyncio.sleep(0)
    loader.release.set()
    await asyncio.gather(first, *waiting)
    assert [len(keys) for _, keys, _ in loader.calls] == [1, 400, 400, 200]
    assert KEYS_A_READ == 500


async def test_versions_that_callers_name_are_read_beside_no_others() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=1)
    first = asyncio.create_task(loads.load(THINGS, [0], 0))
    await under_way(loader, 1)
    named = [loads.begin(THINGS, [key], 40 + key, named=True) for key in (1, 4)]
    shared = [asyncio.create_task(loads.load(THINGS, [key], 0)) for key in (2, 3)]
    await asyncio.sleep(0)
    loader.release.set()
    await asyncio.gather(first, *(read.answer for read in named), *shared)
    assert loader.calls[1:] == [("things", [1, 4], 44), ("things", [2, 3], 0)]


async def test_many_versions_of_the_future_cost_one_round_trip_and_the_others_one_more() -> None:
    loader = ClusterLoader(reached=50)
    loads = loads_of(loader, mongodb_concurrency=1)
    first = asyncio.create_task(loads.load(THINGS, [0], 0))
    await under_way(loader, 1)
    nonsense = [loads.begin(THINGS, [key], 51 + key, named=True) for key in range(1, 200)]
    good = [loads.begin(THINGS, [key], key - 200, named=True) for key in range(200, 250)]
    loader.release.set()
    await first
    ends = await asyncio.gather(*(read.answer for read in nonsense), return_exceptions=True)
    assert {type(end) for end in ends} == {VersionInFuture}
    assert {snapshot.version for snapshot in await asyncio.gather(*(read.answer for read in good))} == {100}
    assert [len(keys) for _, keys, _ in loader.calls] == [1, 249, 50]
    assert not loads.refuses(THINGS)


async def test_a_full_queue_refuses() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=1, mongodb_queue=2)
    reads = [asyncio.create_task(loads.load(THINGS, [key], 0)) for key in range(3)]
    await under_way(loader, 1)
    with pytest.raises(Overloaded):
        await loads.load(THINGS, [3], 0)
    loader.release.set()
    await asyncio.gather(*reads)
    await loads.load(THINGS, [3], 0)


async def test_who_waits_too_long_is_refused_and_never_read() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=1, queue_deadline_ms=20)
    first = asyncio.create_task(loads.load(THINGS, [0], 0))
    await under_way(loader, 1)
    with pytest.raises(Overloaded):
        await loads.load(THINGS, [1], 0)
    loader.release.set()
    await first
    assert len(loader.calls) == 1


async def test_outages_in_a_row_open_the_breaker_and_then_nothing_is_asked() -> None:
    loader = HeldLoader()
    loader.release.set()
    loader.error = Outage("mongodb", "test")
    loads = loads_of(loader)
    for _ in range(5):
        with pytest.raises(Outage):
            await loads.load(THINGS, [0], 0)
    assert len(loader.calls) == 3
    assert loads.refuses(THINGS)


async def test_nonsense_of_callers_does_not_open_the_breaker() -> None:
    loader = HeldLoader()
    loader.release.set()
    loader.error = VersionInFuture(50)
    loads = loads_of(loader)
    for _ in range(5):
        with pytest.raises(VersionInFuture):
            await loads.begin(THINGS, [0], 2**63, named=True).answer
    assert not loads.refuses(THINGS)


@pytest.mark.parametrize("code", [None, 2, 13, 246, 291, 4_711])
async def test_no_refusal_moves_the_breaker(code: int | None) -> None:
    breaker = Breaker("mongodb", 3, 60)
    loader = HeldLoader()
    loader.release.set()
    loader.error = Refused(code, "Test", "request", "", heals=False)
    loads = loads_of(loader, breaker=breaker)
    for _ in range(10):
        with pytest.raises(Refused):
            await loads.load(THINGS, [0], 0)
    assert not breaker.refuses
    assert len(loader.calls) == 10


async def test_a_code_that_nobody_knows_neither_opens_nor_closes_the_breaker() -> None:
    loader = HeldLoader()
    loader.release.set()
    loads = loads_of(loader)
    unknown = Refused(4_711, "Test", "request", "", heals=False)
    for error in (Outage("mongodb", "test"), unknown) * 3:
        loader.error = error
        with pytest.raises(NeverstaleError):
            await loads.load(THINGS, [0], 0)
    assert loads.refuses(THINGS)


async def test_what_stays_refused_is_not_asked_for_each_request_and_keeps_nobody_else_waiting() -> None:
    loader = HeldLoader()
    loader.release.set()
    loader.error = Refused(13, "Unauthorized", "user", "grant it", heals=False)
    loads = loads_of(loader)
    for _ in range(50):
        with pytest.raises(Refused, match="grant it"):
            await loads.load(THINGS, [0], 0)
    assert len(loader.calls) == 1
    loader.error = None
    assert not loads.refuses(OTHERS)
    await loads.load(OTHERS, [0], 0)


async def test_an_error_of_one_read_is_not_shared_by_those_that_were_gathered_with_it() -> None:
    loader = RefusingLoader(7)
    loads = loads_of(loader, mongodb_concurrency=1)
    first = asyncio.create_task(loads.load(THINGS, [0], 0))
    await under_way(loader, 1)
    waiting = [asyncio.create_task(loads.load(THINGS, [key], 0)) for key in range(1, 12)]
    await asyncio.sleep(0)
    loader.release.set()
    await first
    for key, outcome in enumerate(await asyncio.gather(*waiting, return_exceptions=True), 1):
        assert isinstance(outcome, Refused if key == 7 else Snapshot), key
    assert len(loader.calls) < 12


class RefusingLoader(HeldLoader):
    """Reads everything but one key, which the driver cannot even send."""

    def __init__(self, refused: KeyValue) -> None:
        super().__init__()
        self._refused = refused

    async def load(self, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        snapshot = await super().load(resource, keys, at_least)
        if self._refused in keys:
            raise OverflowError("beyond 64 bits")
        return snapshot


async def test_a_version_of_redis_that_mongodb_has_not_reached_costs_a_second_read_as_of_now() -> None:
    class PresentLoader(HeldLoader):
        async def load(self, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
            self.error = VersionInFuture(200) if at_least > 200 else None
            return await super().load(resource, keys, at_least)

        async def now(self) -> Version:
            return 200

    loader = PresentLoader()
    loader.release.set()
    loads = loads_of(loader)
    for _ in range(5):
        assert (await loads.load(THINGS, [0], 2**63)).version == 200
    assert loads.refuses(THINGS) is None


async def test_an_error_that_nobody_expected_reaches_the_asker_and_frees_the_place() -> None:
    loader = HeldLoader()
    loader.release.set()
    loader.error = ZeroDivisionError()
    loads = loads_of(loader, mongodb_concurrency=1)
    with pytest.raises(Refused, match="ZeroDivisionError"):
        await loads.load(THINGS, [0], 0)
    loader.error = None
    await loads.load(THINGS, [0], 0)


async def test_keys_that_nobody_knows_leave_places_to_those_that_are_known() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=4, unknown_percent=50)
    unknown = [asyncio.create_task(loads.load(THINGS, [key], 0, "unknown")) for key in range(20)]
    await under_way(loader, 2)
    known = [asyncio.create_task(loads.load(THINGS, [100 + key], 0)) for key in range(2)]
    await under_way(loader, 4)
    assert [keys for _, keys, _ in loader.calls] == [[0], [1], [100], [101]]
    loader.release.set()
    await asyncio.gather(*unknown, *known)


async def test_keys_that_nobody_knows_are_gathered_by_themselves_and_never_exceed_their_share() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=2, unknown_percent=50)
    reads = [asyncio.create_task(loads.load(THINGS, [key], 0, lane_of(key % 2))) for key in range(6)]
    await under_way(loader, 2)
    loader.release.set()
    await asyncio.gather(*reads)
    assert sorted(sorted(map(int, map(str, keys))) for _, keys, _ in loader.calls) == [[0], [1], [2, 4], [3, 5]]


async def test_a_queue_full_of_keys_that_nobody_knows_still_takes_those_that_are_known() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=1, mongodb_queue=4, unknown_percent=50)
    reads = [asyncio.create_task(loads.load(THINGS, [key], 0, "unknown")) for key in range(3)]
    await under_way(loader, 1)
    with pytest.raises(Overloaded):
        await loads.load(THINGS, [3], 0, "unknown")
    reads += [asyncio.create_task(loads.load(THINGS, [key], 0)) for key in (4, 5)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await loads.load(THINGS, [6], 0)
    loader.release.set()
    await asyncio.gather(*reads)


async def test_demanded_reads_leave_places_to_the_others() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=4, unknown_percent=50, demanded_percent=25)
    reads = [asyncio.create_task(loads.load(THINGS, [key], 0, "demanded")) for key in range(20)]
    reads += [asyncio.create_task(loads.load(THINGS, [100 + key], 0, "unknown")) for key in range(20)]
    await under_way(loader, 3)
    reads.append(asyncio.create_task(loads.load(THINGS, [200], 0)))
    await under_way(loader, 4)
    assert [keys for _, keys, _ in loader.calls] == [[0], [100], [101], [200]]
    loader.release.set()
    await asyncio.gather(*reads)


async def test_a_queue_full_of_demanded_reads_still_takes_the_others() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=1, mongodb_queue=8)
    reads = [asyncio.create_task(loads.load(THINGS, [key], 0, "demanded")) for key in range(3)]
    await under_way(loader, 1)
    with pytest.raises(Overloaded):
        await loads.load(THINGS, [3], 0, "demanded")
    reads += [asyncio.create_task(loads.load(THINGS, [key], 0)) for key in range(4, 10)]
    await asyncio.sleep(0)
    loader.release.set()
    await asyncio.gather(*reads)


async def test_without_a_limit_demanded_reads_may_take_all() -> None:
    loader = HeldLoader()
    loads = loads_of(loader, mongodb_concurrency=4, demands="all")
    reads = [asyncio.create_task(loads.load(THINGS, [key], 0, "demanded")) for key in range(4)]
    await under_way(loader, 4)
    loader.release.set()
    await asyncio.gather(*reads)


async def test_places_that_were_used_are_all_given_back() -> None:
    loader = HeldLoader()
    loader.release.set()
    loads = loads_of(loader, mongodb_concurrency=2, unknown_percent=50)
    for _ in range(3):
        await asyncio.gather(*(loads.load(THINGS, [key], 0, lane_of(key % 2)) for key in range(10)))
    loader.release.clear()
    started = len(loader.calls)
    reads = [asyncio.create_task(loads.load(THINGS, [key], 0, lane_of(not key))) for key in range(2)]
    await under_way(loader, started + 2)
    loader.release.set()
    await asyncio.gather(*reads)
