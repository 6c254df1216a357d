"""Applying a batch: the order of its steps, and what happens when a server does not answer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from neverstale.catalog import Resource
from neverstale.catalog.coverage import Coverage
from neverstale.consumers.apply import Applier, Outcome, Section, Steps
from neverstale.consumers.coverage import Coverages
from neverstale.consumers.dead_letters import DeadLetters
from neverstale.consumers.records.batch import Batch, Folding
from neverstale.consumers.records.doubts import Doubts
from neverstale.consumers.records.horizon import Horizon
from neverstale.consumers.records.poison import Poison
from neverstale.consumers.records.terms import Terms
from neverstale.consumers.refresh import HeldLease, Refresher
from neverstale.consumers.registers import Registers
from neverstale.consumers.replay import Accounts, Gap
from neverstale.consumers.topic_identity import TopicIdentity
from neverstale.errors import Outage
from neverstale.kafka.events import Change, Event, Floor, Mark, Rebuilt, record_key
from neverstale.keys import Names
from neverstale.redis.corrections import Account, Corrections, Invalidated, Lacks, Reached
from neverstale.role.retry import Unwanted, Wanted
from neverstale.role.service import Health
from tests.unit.consumers.records.test_batch import CATALOG, NAMES, Partition, Record, records

PRESENT = 1 << 40
BAD = Record(7, record_key("shop", "stock", "i:1"), b"{")


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
        self.topic: str | None = None

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
        self,
        group: str,
        identity: str,
        partitions: int,
        marks: Mapping[int, tuple[int, int]],
        coverage: Coverage,
        made_up: Mapping[int, str],
    ) -> dict[int, str]:
        if self.no_watermarks:
            raise Outage("redis", "OOM")
        self.told.append(("watermarks", group, identity, partitions, dict(marks)))
        return {}

    async def topics(self, group: str, partitions: Sequence[int]) -> dict[int, str | None]:
        self.told.append(("topics",))
        return dict.fromkeys(partitions, self.topic)

    async def note_topics(self, group: str, topics: Mapping[int, str]) -> None:
        self.told.append(("note topics", dict(topics)))


class NotingRefresher:
    def __init__(self, told: list[tuple[Any, ...]]) -> None:
        self._told = told
        self.offered: list[tuple[str, list[HeldLease]]] = []

    def offer(self, resource: Resource, leases: Sequence[HeldLease]) -> None:
        self._told.append(("hand over",))
        self.offered.append((resource.name, list(leases)))


class Bench:
    """An applier, and what it is surrounded by: MongoDB (`newest`, `ask`), what is derived, and dead letters."""

    def __init__(self, cache: NotingCache | None = None, present: int | None = PRESENT) -> None:
        self.cache = cache or NotingCache()
        self.told = self.cache.told
        self.present = present
        self.refresher = NotingRefresher(self.told)
        self.health = Health()
        self.folding = Folding(CATALOG, NAMES, office=0)
        self.wanted = Wanted()
        self.derive_outages = 0
        redis, collections = cast("Corrections", self.cache), CATALOG.collections
        steps = Steps(
            Doubts(self.folding, cast("Horizon", self), Terms(self.folding, self)),
            TopicIdentity(redis, "group", collections, self.health),
            Coverages(redis, "group", CATALOG),
            Registers(redis, collections, self._never, self.health),
            self.derive,
            Accounts(redis, "group", collections, self.health),
            cast("Refresher", self.refresher),
            cast("DeadLetters", self),
        )
        self.applier = Applier(redis, steps, Section("group", collections, 3000), self.health)

    async def _never(self) -> int:
        raise AssertionError("applying does not ask MongoDB for the present of registers")

    async def newest(self) -> int:
        self.told.append(("terms",))
        return 1

    async def ask(self) -> int | None:
        self.told.append(("horizon",))
        return self.present

    async def derive(self, batch: Batch, identity: str) -> None:
        if self.derive_outages:
            self.derive_outages -= 1
            raise Outage("mongodb", "away")
        self.told.append(("derive", identity))

    async def put(self, poison: Sequence[Poison], wanted: Wanted) -> None:
        if poison:
            self.told.append(("set aside", [each.record.offset for each in poison]))
        if not wanted:
            raise Unwanted

    async def apply(self, batch: Batch, begins: Mapping[int, int] | None = None, *, wanted: bool = True) -> Outcome:
        batch.begins = {2: 0} if begins is None else dict(begins)
        if not wanted:
            self.wanted.end()
        return await self.applier.apply(batch, self.wanted)

    @property
    def steps(self) -> list[str]:
        return [step[0] for step in self.told]


def fold(*given: Event | bytes | None) -> Batch:
    return Folding(CATALOG, NAMES).fold({Partition("t", 2): records(*given)})


CHANGE = Change("update", "shop", "stock", "i:1", 5, 1000, None)


async def test_the_steps_stand_in_the_order_that_the_protocol_asks_for() -> None:
    bench = Bench(NotingCache(letter="r"))
    batch = bench.folding.fold({Partition("t", 2): [*records(CHANGE, Mark(7, 700, 4, 1, "topic")), BAD]})
    batch.rebuilt.append((2, Rebuilt("stock", "g", 4)))
    assert (await bench.apply(batch)).applied
    assert bench.steps == [
        "terms",
        "horizon",
        "topics",
        "invalidate",
        "derive",
        "reach",
        "watermarks",
        "hand over",
        "note topics",
        "set aside",
    ]


async def test_watermarks_follow_the_invalidations_that_precede_their_marks() -> None:
    bench = Bench(NotingCache())
    assert (await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)))).applied
    invalidate, watermarks = bench.told
    assert invalidate[:3] == ("invalidate", 5, [b"ns:stock:d:i:1"])
    assert watermarks == ("watermarks", "group", "A", 4, {2: (7, 700)})


async def test_what_redis_lacks_is_asked_in_the_same_round_trip_if_nothing_is_derived() -> None:
    bench = Bench(NotingCache())
    await bench.apply(fold(CHANGE))
    derived = fold(CHANGE)
    derived.rebuilt.append((2, Rebuilt("stock", "g", 4)))
    await bench.apply(derived)
    assert bench.steps == ["invalidate", "invalidate", "derive", "reach"]


async def test_with_a_mark_every_register_is_looked_at_and_none_is_raised_for_it() -> None:
    bench = Bench(NotingCache())
    await bench.apply(fold(Floor("shop", "items", 6, "drop"), Mark(7, 700, 4, 1)))
    await bench.apply(fold(CHANGE))
    assert bench.told[0] == ("invalidate", 6, [], {"items": 6, "orders": 0, "stock": 0}, [])
    assert bench.told[-1] == ("invalidate", 5, [b"ns:stock:d:i:1"], {}, [])


async def test_no_watermark_is_written_where_redis_lacks_records() -> None:
    bench = Bench(NotingCache())
    bench.cache.lacks[2] = Lacks(17)
    outcome = await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)), {2: 20})
    assert bench.steps == ["invalidate"]
    assert outcome == Outcome(applied=True, gaps={2: Gap(17, 20)})


async def test_no_watermark_is_written_where_another_redis_took_the_batch() -> None:
    bench = Bench(NotingCache())
    bench.cache.lacks[2] = "elsewhere"
    assert await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1))) == Outcome(applied=True)
    assert bench.steps == ["invalidate"]


async def test_no_watermark_is_written_when_redis_does_not_say_what_it_lacks() -> None:
    bench = Bench(NotingCache())
    bench.cache.no_reach = True
    assert (await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)))).applied
    assert bench.steps == ["invalidate", "reach"]
    assert bench.health.parts["redis"] == "OOM"


async def test_a_watermark_that_cannot_be_written_waits_for_the_next_mark() -> None:
    bench = Bench(NotingCache())
    bench.cache.no_watermarks = True
    assert (await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)))).applied


async def test_an_outage_holds_the_same_batch_until_it_is_applied() -> None:
    bench = Bench(NotingCache(outages=2))
    assert (await bench.apply(fold(CHANGE))).applied
    assert bench.steps == ["invalidate"] * 3
    assert bench.health.parts["redis"] is None


async def test_a_batch_that_is_no_longer_wanted_is_given_up() -> None:
    bench = Bench(NotingCache(outages=99))
    assert not (await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1)), wanted=False)).applied
    assert len(bench.told) == 1
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
    assert bench.told[0][:5] == ("invalidate", 0, [], {}, ["items", "orders", "stock"])


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
    assert (await bench.apply(fold(Change("update", "shop", "elsewhere", "s:a", 5, 1000, None)))).applied
    assert bench.told == []


async def test_what_poison_may_concern_is_applied_before_it_is_put_away() -> None:
    bench = Bench()
    assert (await bench.apply(bench.folding.fold({Partition("t", 2): [BAD]}))).applied
    assert bench.steps == ["horizon", "invalidate", "set aside"]
    assert bench.told[1][2] == [b"ns:stock:d:i:1"]
    assert bench.told[-1] == ("set aside", [7])


async def test_with_mongodb_away_what_poison_may_concern_is_void_and_nothing_waits() -> None:
    bench = Bench(present=None)
    await bench.apply(bench.folding.fold({Partition("t", 2): [BAD]}))
    assert (bench.told[1][2], bench.told[1][4]) == ([], ["stock"])
    assert bench.steps[-1] == "set aside"


async def test_of_a_batch_that_was_not_applied_nothing_is_put_away() -> None:
    bench = Bench(NotingCache(outages=99))
    assert not (await bench.apply(bench.folding.fold({Partition("t", 2): [BAD]}), wanted=False)).applied
    assert bench.steps == ["horizon", "invalidate"]


async def test_a_batch_whose_poison_could_not_be_put_away_is_not_applied() -> None:
    bench = Bench()
    assert not (await bench.apply(bench.folding.fold({Partition("t", 2): [BAD]}), wanted=False)).applied
    assert bench.steps == ["horizon", "invalidate", "set aside"]


async def test_while_what_is_derived_waits_for_mongodb_there_is_no_watermark() -> None:
    bench = Bench()
    bench.derive_outages = 2
    batch = fold(CHANGE, Mark(7, 700, 4, 1))
    batch.rebuilt.append((2, Rebuilt("stock", "g", 4)))
    assert (await bench.apply(batch)).applied
    assert bench.steps == ["invalidate", "derive", "reach", "watermarks"]
    assert bench.health.parts["mongodb"] == "away"


async def test_a_batch_whose_partitions_go_to_another_consumer_is_not_said_to_be_derived() -> None:
    bench = Bench()
    bench.derive_outages = 99
    batch = fold(CHANGE, Mark(7, 700, 4, 1))
    batch.rebuilt.append((2, Rebuilt("stock", "g", 4)))
    assert not (await bench.apply(batch, wanted=False)).applied
    assert bench.steps == ["invalidate"]


async def test_a_mark_of_another_topic_voids_everything_before_it_claims_anything() -> None:
    bench = Bench()
    bench.cache.topic = "a"
    await bench.apply(fold(CHANGE, Mark(7, 700, 4, 1, "b")))
    assert bench.steps == ["topics", "invalidate", "derive", "reach", "watermarks", "note topics"]
    assert bench.told[1][4] == sorted(CATALOG.collections)
    assert bench.told[-1] == ("note topics", {2: "b"})
