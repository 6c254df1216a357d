"""Real MongoDB and Redis, the shipped `ResourceDeriver`, `Rebuilder` and records, in any order Hypothesis thinks of.

What `test_derived_search` proves for all orders of a few steps on one document, this tests for some orders of many
steps, on a few documents of any values: two consumers, of which one may be paused between its read and its script;
records late, again and in any order between partitions; Redis emptied, history lost, partitions rewound.

After every step no page that is valid misses an applied change. When everything has arrived, every page, count, sum,
average, score and rank is what MongoDB says. `NEVERSTALE_TEST_SEARCH=full` takes more orders.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, NamedTuple, cast

import pytest
from aiokafka import TopicPartition
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from neverstale.bson.texts import text_of
from neverstale.consumers.derived.derive import ResourceDeriver
from neverstale.consumers.derived.rebuild import Rebuilder
from neverstale.consumers.records.batch import Batch, Folding
from neverstale.derived import reading
from neverstale.derived.beginning import begin
from neverstale.derived.generations import Generation
from neverstale.derived.groups import group
from neverstale.kafka.events import Floor, Rebuilt, Touch, encode, record_key
from neverstale.kafka.partitioner import partition_of
from neverstale.keys import canonical
from neverstale.mongodb.kinds import Kind
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.replies import Reply
from neverstale.mongodb.walks import Walk, Walks
from neverstale.versions import Version, to_timestamp
from tests.faults.rig.sabotage import without
from tests.properties.deriving_truth import Ranks, counted, kept_counts, kept_rankings, pages_agree, rankings
from tests.properties.deriving_world import (
    KEYS,
    LISTS,
    NAME,
    PARTITIONS,
    PATIENCE_MS,
    Change,
    Document,
    Group,
    Record,
    Servers,
    World,
    servers,
    shown,
)
from tests.properties.noticing import finds
from tests.properties.test_cache_machine import choose
from tests.support.forms import FULL

EXAMPLES: Final = 500 if FULL else 10
IDENTITY: Final = "this Redis"
LATEST: Final = 2**64 - 1
PAGES: Final = 60
GROUP_VALUES: Final[tuple[Any, ...]] = ("A", "B", "C", None, ..., 5, 5.0, ["A", "B"], ["B", "B", None], [])
"""`...`: missing."""
AMOUNTS: Final[tuple[Any, ...]] = (3, -7, Int64(2**40), 0.5, 0.1, 3.0, Decimal128("2.25"), None, ..., "text")
BEYOND: Final = (0.125, Decimal128("1E+30"))
"""Numbers that do not fit the scale, or 64 bits."""


class Page(NamedTuple):
    """What a reader filled."""

    generation: str
    group: Group
    version: Version


class Members(Loader):
    """Reads from members that lag as far behind as they may, and holds up whoever is to be paused."""

    def __init__(self, world: World) -> None:
        super().__init__(world.reader, world.catalog.database, PATIENCE_MS)
        self._world = world
        self.lag = 0
        """Which of the versions is read; 0: the last."""
        self.gate: asyncio.Event | None = None
        self.has_read = asyncio.Event()

    async def read(
        self, collection: str, keys: Sequence[Any], projection: Mapping[str, Any] | None, at_least: Version
    ) -> tuple[Version, list[dict[str, Any]]]:
        found = await super().read(collection, keys, projection, at_least)
        if self.gate is not None:
            self.has_read.set()
            await self.gate.wait()
        return found

    async def _find(self, collection: str, keys: Any, projection: Any, concern: dict[str, Any]) -> tuple[Reply, Kind]:
        if self.lag and (after := concern.get("afterClusterTime")) is not None:
            versions = self._world.versions((after.time << 32) + after.inc)
            concern = {"level": "snapshot", "atClusterTime": to_timestamp(versions[(self.lag - 1) % len(versions)])}
        return await super()._find(collection, keys, projection, concern)


class Requests:
    """Takes the place of the control collection: the last walk that was asked for."""

    def __init__(self) -> None:
        self.wanted: Walk | None = None
        self.begun: Version | None = None
        self.last: int | None = None

    async def ask(self, walk: Walk) -> bool:
        if self.wanted is None or self.wanted.id != walk.id:
            self.wanted, self.begun, self.last = walk, None, None
        return True


class Consumer:
    def __init__(self, world: World, requests: Requests) -> None:
        async def identity() -> str:
            return IDENTITY

        self.loader = Members(world)
        self.folding = Folding(world.catalog, world.cache.names)
        self.deriver = ResourceDeriver(world.resource, world.store, self.loader)
        clock = count(0, 1000)  # its pauses are over
        walks = cast("Walks", requests)
        self.rebuilder = Rebuilder(
            world.resource, world.store, self.loader, walks, identity, lambda: float(next(clock))
        )


@dataclass(frozen=True)
class Paused:
    consumer: Consumer
    batch: Batch
    task: asyncio.Task[None]


class DerivedMachine:
    """Each step is told by a number what to choose; a step for which there is nothing to do does nothing."""

    def __init__(self, servers: Servers) -> None:
        self._exits = ExitStack()
        self.world: World = self._exits.enter_context(servers.world())
        self.requests = Requests()
        self.consumers = deque(Consumer(self.world, self.requests) for _ in range(2))
        """The first one owns the partitions."""
        self.paused: Paused | None = None
        self.positions = [0] * PARTITIONS
        """Records before these are applied."""
        self.applied: dict[int, Version] = dict.fromkeys(KEYS, 0)
        self.floor: Version = 0
        """What consumers have begun to tell Redis of floors, before they derive."""
        self.pages: deque[Page] = deque(maxlen=PAGES)
        self.number = 0
        self.has_lost_a_key = False
        self.served = 0
        """Pages that were valid when they were looked at."""
        self.settle(0)

    def close(self) -> None:
        self.kill_the_paused_one(0)
        self._exits.close()

    # A writer

    def write(self, n: int) -> None:
        n, key = choose(n, KEYS)
        n, how = choose(n, ("put", "put", "move", "set", "set", "push", "delete", "delete", "together"))
        if how == "put":
            self.world.replace(key, self.document(n))
        elif how == "move":
            self.world.update(key, {"$set": {"g": choose(n, "ABC")[1]}})
        elif how == "set":
            n, name = choose(n, ("v", "n", "open", "g"))
            fields = self.document(n)
            self.world.update(key, {"$set": {name: fields[name]}} if name in fields else {"$unset": {name: 1}})
        elif how == "push":
            held = self.world.documents.find_one({"_id": key})
            if held is not None and isinstance(held.get("g"), list):
                self.world.update(key, {"$push": {"g": choose(n, "ABC")[1]}})
        elif how == "delete":
            self.world.delete(key)
        else:
            self.world.together({other: self.document(n + other) for other in KEYS[:2]})

    def document(self, n: int) -> Document:
        self.number += 1
        n, group_value = choose(n, GROUP_VALUES)
        n, amount = choose(n, AMOUNTS * 3 + BEYOND)
        _, is_open = choose(n, (True, True, False))
        fields = {"g": group_value, "v": amount, "n": self.number, "open": is_open}
        return {name: value for name, value in fields.items() if value is not ...}

    def move(self, n: int) -> None:
        """A document moves from group to group, and somebody reads each group while it is in it."""
        n, key = choose(n, KEYS)
        for letter in ("ABC", "BCB", "CA", "AB")[n % 4]:
            self._to(key, letter)
            if self.world.changes:
                self._fill(("by_group", letter), self.world.changes[-1].version)

    def _to(self, key: int, letter: str) -> None:
        self.world.update(key, {"$set": {"g": letter}})

    # The watcher, and its walker

    def publish(self, n: int) -> None:
        self.world.publish(choose(n, (1, 2, 100))[1])

    def publish_all(self) -> None:
        self.world.publish(len(self.world.unpublished))

    def publish_again(self, n: int) -> None:
        n, partition = choose(n, range(PARTITIONS))
        if log := self.world.partitions[partition]:
            _, record = choose(n, log)
            self.world.append(partition, record.key, record.value)

    def walk(self, n: int) -> None:
        walk = self.requests.wanted
        if walk is None:
            return
        if self.requests.begun is None:
            self.requests.begun = self.world.do(self.consumers[0].loader.now())
        n, is_killed = choose(n, (False, False, False, True))
        if is_killed:
            self.requests.last = None
        after = {} if self.requests.last is None else {"_id": {"$gt": self.requests.last}}
        found = self.world.documents.find(after, {"_id": 1}).sort("_id", 1).limit(1 + n % 3)
        keys = [row["_id"] for row in found]
        database = self.world.catalog.database
        for key in keys:
            text = canonical(key)
            record = record_key(database, NAME, text)
            value = encode(Touch(database, NAME, text, self.requests.begun))
            self.world.append(partition_of(record, PARTITIONS), record, value)
        if keys:
            self.requests.last = keys[-1]
        else:
            self.everywhere(encode(Rebuilt(NAME, walk.id, PARTITIONS)))
            self.requests.wanted = None

    def lose_history(self, n: int) -> None:
        """What was not published will never be; a floor says so."""
        if n % 3 == 0:
            self.world.unpublished.clear()
            version = self.world.do(self.consumers[0].loader.now())
            self.everywhere(encode(Floor(self.world.catalog.database, NAME, version, "history lost")))

    def everywhere(self, value: bytes) -> None:
        for partition in range(PARTITIONS):
            self.world.append(partition, None, value)

    # Consumers

    def look(self, n: int) -> None:
        """See to it that there is a generation, and that it is walked for."""
        self.world.do(self.consumers[n % 2].rebuilder.look())

    def rebuild(self, n: int) -> None:
        """As the command does: another generation beside the one that serves."""
        loader = self.consumers[n % 2].loader
        self.world.do(begin(self.world.resource, self.world.store, loader, IDENTITY))

    def apply(self, n: int) -> None:
        n, batch = self._batch(n)
        self._apply(batch, n % 4)

    def apply_all(self, n: int) -> None:
        self._apply(self._rest(), n % 4)

    def _apply(self, batch: Batch, lag: int = 0) -> None:
        consumer = self.consumers[0]
        consumer.loader.lag = lag
        self.world.do(consumer.deriver.apply(batch, IDENTITY))
        self._is_applied(batch)

    def pause(self, n: int) -> None:
        if self.paused is None:
            n, batch = self._batch(n)
            self._pause(batch, n % 4)

    def _pause(self, batch: Batch, lag: int = 0) -> None:
        """A consumer has read MongoDB and is paused; the other takes its partitions over."""
        consumer = self.consumers[0]
        consumer.loader.lag = lag
        task = self.world.do(self._until_it_has_read(consumer, batch))
        if task.done():
            consumer.loader.gate = None
            task.result()
            self._is_applied(batch)
        else:
            self.paused = Paused(consumer, batch, task)
            self.consumers.rotate()

    async def _until_it_has_read(self, consumer: Consumer, batch: Batch) -> asyncio.Task[None]:
        loader = consumer.loader
        loader.gate, loader.has_read = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(consumer.deriver.apply(batch, IDENTITY))
        reads = asyncio.create_task(loader.has_read.wait())
        await asyncio.wait((task, reads), return_when=asyncio.FIRST_COMPLETED)
        reads.cancel()
        return task

    def wake_the_paused_one(self, _: int) -> None:
        if (paused := self.paused) is None:
            return
        loader = paused.consumer.loader
        assert loader.gate is not None
        loader.gate.set()
        loader.gate = None
        self.world.do(paused.task)
        self.paused = None
        self._is_applied(paused.batch)

    def kill_the_paused_one(self, _: int) -> None:
        if (paused := self.paused) is None:
            return
        paused.task.cancel()
        with suppress(asyncio.CancelledError):
            self.world.do(paused.task)
        self.paused = None
        self.consumers[1] = Consumer(self.world, self.requests)

    def rewind(self, n: int) -> None:
        n, partition = choose(n, range(PARTITIONS))
        self.positions[partition] = n % (self.positions[partition] + 1)

    def _batch(self, n: int) -> tuple[int, Batch]:
        """Some records of some partitions, from where these were applied up to, or from before."""
        n, which = choose(n, ((0,), (1,), (0, 1)))
        fetched: dict[TopicPartition, Sequence[Record]] = {}
        for partition in which:
            n, again = choose(n, (0, 0, 1, 3))
            n, size = choose(n, (1, 2, 5, 100))
            first = max(0, self.positions[partition] - again)
            fetched[TopicPartition(NAME, partition)] = self.world.partitions[partition][first : first + again + size]
        return n, self._fold(fetched)

    def _rest(self) -> Batch:
        logs = zip(self.world.partitions, self.positions, strict=True)
        return self._fold({TopicPartition(NAME, place): log[first:] for place, (log, first) in enumerate(logs)})

    def _fold(self, fetched: Mapping[TopicPartition, Sequence[Record]]) -> Batch:
        batch = self.consumers[0].folding.fold(fetched)
        assert not batch.poison
        self.floor = max(self.floor, *batch.floors.values(), 0)
        return batch

    def _is_applied(self, batch: Batch) -> None:
        for partition, position in batch.offsets.items():
            self.positions[partition] = max(self.positions[partition], position)
        for documents in batch.told.values():
            for key, records in documents.items():
                newest = max((seen.version for seen in records if seen.operation != "touch"), default=0)
                self._reaches(int(key.removeprefix("i:")), newest)
        for version in batch.lost.values():
            for number in KEYS:
                self._reaches(number, version)

    def _reaches(self, key: int, version: Version) -> None:
        self.applied[key] = max(self.applied[key], version)

    # What is rare by chance

    def overtake(self, n: int) -> None:
        """A consumer is paused between its read and its script, while its successor applies the next change."""
        n, key = choose(n, KEYS)
        n, is_deleted = choose(n, (False, True))
        if is_deleted:
            self.world.delete(key)
        else:
            self.world.replace(key, {"g": "A", "v": 1})
        self.settle(0)
        self.world.replace(key, {"g": "B", "v": 2})
        self.publish_all()
        self._pause(self._rest())
        if is_deleted:
            self.world.delete(key)
        else:
            self._to(key, "C")
        self.publish_all()
        self.apply_all(0)
        self.settle(n)

    def fall_behind(self, n: int) -> None:
        """A document is read when it has left a group for good, then by a member that has it come back there."""
        _, key = choose(n, KEYS)
        self.world.replace(key, {"g": "A", "v": 1})
        self.settle(0)
        self.world.update(key, {"$set": {"v": 2}})
        self.publish_all()
        for letter in "BCB":
            self._to(key, letter)
        self._fill(("by_group", "B"), self.world.changes[-1].version)
        self._to(key, "C")
        self._apply(self._rest())
        self.world.publish(3)
        self._apply(self._rest(), lag=1)
        self.publish_all()
        self.apply_all(0)

    # Readers of pages

    def read(self, n: int) -> None:
        n, version = choose(n, self.world.versions(self.world.start)[-4:])
        self._fill(choose(n, LISTS)[1], version)

    def _fill(self, one: Group, version: Version) -> None:
        known = self.world.do(self.world.store.generations())
        for generation in known.all:
            if generation.birth is not None and generation.birth <= version:
                self.pages.append(Page(generation.id, one, version))

    # Redis

    def lose(self, n: int) -> None:
        n, what = choose(n, ("all", "register", "key", "key", "scripts"))
        if what == "all":
            self.world.empty_redis()
        elif what == "scripts":
            self.world.do(self.world.cache.send(("SCRIPT", "FLUSH")))
        elif what == "register":
            self.world.do(self.world.cache.send(("DEL", self.world.store.names.generations)))
        else:
            (names,) = self.world.do(self.world.cache.send(("KEYS", f"{self.world.cache.names.prefix}:*")))
            if names:
                self.world.do(self.world.cache.send(("DEL", choose(n, sorted(names))[1])))
                self.has_lost_a_key = True

    # What always holds

    def no_page_misses_an_applied_change(self) -> None:
        for page in self._valid():
            self.served += 1
            missed = [change for change in self.world.changes if self._misses(page, change)]
            assert not missed, f"{page} is valid although it misses an applied change: {missed[0]}"

    def _misses(self, page: Page, change: Change) -> bool:
        if not page.version < change.version <= self.applied[change.key]:
            return False
        return shown(change.before, page.group) != shown(change.after, page.group)

    def _valid(self) -> list[Page]:
        """Pages of which a reader would take the tags to vouch."""
        if not self.pages:
            return []
        known = self.world.do(self.world.store.generations())
        asked = [(page, one) for page in self.pages if (one := known.of(page.generation)) is not None]
        if not asked:
            return []
        commands = []
        for page, one in asked:
            name, value = page.group
            by = group([] if name == "everything" else [text_of(value)])
            commands.append(("HMGET", self.world.store.names.of(one.id).tags(name), *reading.tag_fields(by)))
        tags = self.world.do(self.world.cache.send(*commands))
        floors = [reading.page_floor(one, self.floor, held) for (_, one), held in zip(asked, tags, strict=True)]
        pairs = zip(asked, floors, strict=True)
        return [page for (page, _), floor in pairs if floor is not None and page.version >= floor]

    def settle(self, _: int) -> None:
        """Everything arrives, and is what MongoDB says."""
        generation = self._converge()
        if self.has_lost_a_key and self._is_unknown(generation):
            # No change has met what is gone, so nobody is building another generation; MongoDB answers meanwhile.
            self.rebuild(0)
            generation = self._converge()
        self.has_lost_a_key = False
        self.no_page_misses_an_applied_change()
        pages_agree(self.world)
        counts, ranks = self.world.do(kept_counts(self.world, generation)), self._kept_rankings(generation)
        assert counts == counted(self.world), "what is counted is not what MongoDB says"
        assert ranks == rankings(self.world), "what is ranked is not what MongoDB says"
        for one in LISTS:
            self._fill(one, self.world.versions(self.world.start)[-1])

    def _converge(self) -> Generation:
        self.wake_the_paused_one(0)
        self.publish_all()
        for _ in range(20):
            self.apply_all(0)
            known = self.world.do(self.world.store.generations())
            if known.complete is not None and known.next is None:
                return known.complete
            self.look(0)
            while self.requests.wanted is not None:
                self.walk(0)
        raise AssertionError("no generation becomes complete")

    def _is_unknown(self, generation: Generation) -> bool:
        counts = self.world.do(kept_counts(self.world, generation))
        return None in counts.values() or None in self._kept_rankings(generation).values()

    def _kept_rankings(self, generation: Generation) -> dict[str, Ranks | None]:
        return self.world.do(kept_rankings(self.world, generation))


WEIGHTS = {
    DerivedMachine.write: 6,
    DerivedMachine.move: 2,
    DerivedMachine.publish: 6,
    DerivedMachine.publish_again: 2,
    DerivedMachine.walk: 6,
    DerivedMachine.lose_history: 1,
    DerivedMachine.look: 3,
    DerivedMachine.rebuild: 1,
    DerivedMachine.apply: 7,
    DerivedMachine.apply_all: 3,
    DerivedMachine.pause: 3,
    DerivedMachine.wake_the_paused_one: 3,
    DerivedMachine.kill_the_paused_one: 1,
    DerivedMachine.rewind: 1,
    DerivedMachine.overtake: 1,
    DerivedMachine.fall_behind: 1,
    DerivedMachine.read: 3,
    DerivedMachine.lose: 1,
    DerivedMachine.settle: 1,
}
VERBS = [step.__name__ for step, weight in WEIGHTS.items() for _ in range(weight)]
STEPS = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 2**20)), min_size=40, max_size=80)


def run(servers: Servers, steps: Sequence[tuple[str, int]]) -> int:
    """Take the steps; answers how many pages were valid when they were looked at."""
    machine = DerivedMachine(servers)
    try:
        for verb, n in steps:
            getattr(machine, verb)(n)
            machine.no_page_misses_an_applied_change()
        machine.settle(0)
        return machine.served
    finally:
        machine.close()


@pytest.mark.timeout(600)
def test_no_order_of_steps_on_real_servers_makes_derived_data_drift(
    mongo_uri: str, redis_url: str, database: str
) -> None:
    served = []

    @given(STEPS)
    # Steps on real servers are too slow to look for the fewest.
    @settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.reuse, Phase.generate])
    def check(steps: list[tuple[str, int]]) -> None:
        served.append(run(started, steps))

    with servers(mongo_uri, redis_url, database) as started:
        check()
    assert sum(served) > 10 * len(served), "too few pages were valid to tell anything"


MISSED: Final = "misses an applied change"
DRIFTED: Final = "is not what MongoDB says"
RULES: Final = {
    "INCR instead of contributions": DRIFTED,
    "any contribution takes the place of any other": DRIFTED,
    "any read may create a contribution": DRIFTED,
    "tags of named groups are not raised": MISSED,
}
MORE_RULES: Final = {
    "tags of stored groups are not raised": MISSED,
    "tags are raised to s alone": MISSED,
}
"""Which take longer to be missed."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rule", RULES | MORE_RULES if FULL else RULES)
def test_the_machine_notices_a_rule_that_is_taken_away(
    rule: str, mongo_uri: str, redis_url: str, database: str
) -> None:
    with without(rule), servers(mongo_uri, redis_url, database) as started:
        finds(STEPS, lambda steps: run(started, steps), (RULES | MORE_RULES)[rule])
