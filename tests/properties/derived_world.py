"""One document with a list, a counter and a ranking: what it was, what consumers are told, what readers conclude.

What both searches of derived data have in common; `derived_model` and `rebuild_model` say what can happen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any, Final, TypeAlias

from neverstale.catalog.declarations import Declarations
from neverstale.derived import groups, reading
from neverstale.derived.counters.fields import Group, Sum
from neverstale.derived.counters.held import all_groups
from neverstale.derived.facts import Facts
from neverstale.derived.generations import Generation, Generations, shape_of
from neverstale.derived.kinds.counters import CounterShape
from neverstale.derived.plan import Call, Plan, Said
from neverstale.derived.rankings.held import is_whole, size_fields
from neverstale.derived.rankings.members import member_of
from neverstale.derived.redis_names import LIST_FLOOR, PRESENT, DerivedNames, slot_of
from neverstale.derived.store import hashes_of
from neverstale.redis.scripts import Name
from tests.support.lua_collections import CollectionsRedis
from tests.support.lua_redis import Snapshot

ZERO: Final = b"0" * 16
START: Final = 1
"""The version of the state before the first change."""
TOUCH: Final = 0
"""In the partition: a walk passed the document."""
KEY: Final = "s:k"
PARTITION: Final = 0
NAMES: Final = DerivedNames("p", "r")

Document: TypeAlias = Mapping[str, Any] | None
Counts: TypeAlias = dict[str, Group]
Ranks: TypeAlias = dict[str, dict[bytes, float]]


@dataclass(frozen=True, slots=True)
class Documents:
    """What the document can be, and what is declared."""

    all: tuple[Document, ...]
    """The first is what it is at START."""
    changes: int = 3
    touches: int = 0
    by: tuple[str, ...] = ("o",)
    shown: tuple[str, ...] = ("x",)
    """What pages show; counters and rankings use `x` in any case."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """What the list's documents hold."""
    alike: frozenset[int] = frozenset()
    """Places of documents that differ by their group's name only."""


@dataclass(frozen=True, slots=True)
class Story:
    history: tuple[int, ...]
    """Which of the documents it was, from version START on."""
    log: tuple[int, ...]
    """The partition: versions of changes, and TOUCH."""


def stories(documents: Documents) -> Iterator[Story]:
    """Every story within the bounds, the shorter ones first."""
    histories: list[tuple[int, ...]] = [(0,)]
    for history in histories:
        changes = tuple(range(START + 1, len(history) + 1))
        for places in combinations_with_replacement(range(len(changes) + 1), documents.touches):
            log = list(changes)
            for place in reversed(places):
                log.insert(place, TOUCH)
            yield Story(history, tuple(log))
        if len(history) <= documents.changes:
            met = {i for i in history if i in documents.alike}
            first = min(documents.alike - met, default=-1)
            histories += [
                (*history, i)
                for i in range(len(documents.all))
                if i != history[-1] and (i not in documents.alike or i in met or i == first)
            ]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is not in the scripts. Each can be dropped, to see what it is good for."""

    plan: type[Plan] = Plan
    lost_is_unknown: bool = True
    """Readers look for the mark of a hash."""
    differences_of_contributions: bool = True
    """Else counts follow the events, as an INCR for each would."""


class World:
    """Redis, and a story that can be exchanged for another."""

    def __init__(
        self, documents: Documents, rules: Rules | None = None, scripts: Mapping[Name, str] | None = None
    ) -> None:
        self.documents = documents
        self.rules = rules or Rules()
        self.redis = CollectionsRedis(scripts)
        declared = Declarations.model_validate(
            {
                "shown": documents.shown,
                "lists": {"l": {"by": documents.by, "where": documents.where}},
                "counters": {"c": {"by": documents.by, "sums": {"x": {"field": "x"}}}},
                "rankings": {"r": {"by": documents.by, "score": "x", "size": 10}},
            }
        )
        self.declared = declared.text
        self._shape = shape_of(declared.text)
        self._facts = [None if one is None else self._shape.facts([one])[0] for one in documents.all]
        self._groups = [self._groups_of(one) for one in self._facts]
        self._counted = [self._counted_as(one) for one in self._facts]
        self.groups = sorted({group for some in self._counted for group in some})
        self.tell(Story((0,), ()))

    def tell(self, story: Story) -> None:
        self.story = story
        self._numbers: dict[Snapshot, int] = {}
        self._snapshots: list[Snapshot] = []
        self._affecting = {
            group: [t for t in range(START + 1, len(story.history) + 1) if self._affects(t, group)]
            for group in self.groups
        }

    # Redis

    def lay(self, generation: Generation) -> None:
        for key in hashes_of(NAMES, generation):
            self.redis.command("HSET", key, PRESENT, b"")

    def run(self, script: Name, call: Call) -> Any:
        return self.redis.run(script, call.keys, call.arguments)

    def take(self, generations: Sequence[Generation]) -> int:
        """Number what Redis holds, with the tags as coarse as they may be without a difference to any claim."""
        for generation in generations:
            self._coarsen(NAMES.of(generation.id).tags("l"))
        snapshot = self.redis.snapshot()
        number = self._numbers.setdefault(snapshot, len(self._snapshots))
        if number == len(self._snapshots):
            self._snapshots.append(snapshot)
        return number

    def snapshot(self, number: int) -> Snapshot:
        return self._snapshots[number]

    def restore(self, number: int) -> None:
        self.redis.restore(self._snapshots[number])

    def _coarsen(self, key: bytes) -> None:
        tags = self.redis.hash(key)
        if PRESENT not in tags:
            return
        self.redis.command("DEL", key)
        self.redis.command("HSET", key, PRESENT, b"")
        for group, affecting in self._affecting.items():
            raised = int(max(tags.get(LIST_FLOOR, ZERO), tags.get(slot_of(group), ZERO)), 16)
            coarse = max((t for t in affecting if t <= raised), default=None)
            if coarse is not None:
                self.redis.command("HSET", key, slot_of(group), b"%016x" % coarse)

    # Consumers

    def held(self, generation: Generation) -> bytes:
        return self.redis.hash(NAMES.of(generation.id).bucket(0)).get(KEY.encode(), b"")

    def planned(self, generation: Generation, known: Generations, log: Sequence[int], held: bytes, s: int) -> Call:
        plan = self.rules.plan(NAMES, generation, s)
        records = [self._record(t) for t in sorted(log)]
        plan.add([KEY], [records], [held], [self._facts[self.story.history[s - 1]]])
        if not self.rules.differences_of_contributions and set(log) != {TOUCH}:
            plan = self._incremented(generation, plan, log, s)
        return plan.call(known.epoch, PARTITION)

    def _incremented(self, generation: Generation, planned: Plan, log: Sequence[int], s: int) -> Plan:
        """The same, but counted as an INCR for each event does."""
        counted = Plan(NAMES, generation, s)
        for t in log:
            if t != TOUCH:
                before, after = (self._facts[i] for i in self.story.history[t - 2 : t])
                counted.differ(KEY, before, after)
        counted.tags.update(planned.tags)
        return counted

    def _record(self, t: int) -> Said:
        if t == TOUCH:
            return Said("touch", START, (), None)
        before, after = (self.documents.all[i] for i in self.story.history[t - 2 : t])
        if after is None:
            return Said("delete", t, None, None)
        if before is None:
            return Said("insert", t, None, {path: groups.fact_at(after, path) for path in self.documents.by})
        changed = tuple(path for path in after if after[path] != before[path])
        named = {path: groups.fact_at(after, path) for path in self.documents.by if path in changed}
        return Said("update", t, changed, named)

    # Readers

    def page_misses(self, generation: Generation, applied: Sequence[int]) -> bool:
        """Whether some page that somebody could have filled is valid and misses one of the applied changes."""
        tags = self._marked(self.redis.hash(NAMES.of(generation.id).tags("l")))
        for group in self.groups:
            floor = reading.page_floor(generation, START, [tags.get(field) for field in reading.tag_fields(group)])
            if floor is not None and any(t > floor and t in self._affecting[group] for t in applied):
                return True
        return False

    def miscounts(self, generation: Generation, could_be: Sequence[int]) -> bool:
        """Whether a counter or ranking that is known is not what the document was at one of these versions."""
        counts, ranks = self._counts(generation), self._ranks(generation)
        return not (
            (counts is None or any(counts == self._counts_at(s) for s in could_be))
            and (ranks is None or any(ranks == self._ranks_at(s) for s in could_be))
        )

    def is_there(self, s: int) -> bool:
        return self.documents.all[self.story.history[s - 1]] is not None

    def _affects(self, t: int, group: str) -> bool:
        """Whether change t alters what a page of the group shows."""
        before, after = (self.documents.all[i] for i in self.story.history[t - 2 : t])
        used = (*self.documents.by, *self.documents.where, *self.documents.shown)
        if before and after and all(before[path] == after[path] for path in used):
            return False
        return any(group in self._groups[i] for i in self.story.history[t - 2 : t])

    def _counts(self, generation: Generation) -> Counts | None:
        return all_groups(self._marked(self.redis.hash(NAMES.of(generation.id).counter("c"))), 1)

    def _ranks(self, generation: Generation) -> Ranks | None:
        own = NAMES.of(generation.id)
        sizes, ranks = self._marked(self.redis.hash(own.sizes("r"))), {}
        for group in self.groups:
            scores = self.redis.scores(own.ranking("r", group))
            if not is_whole([sizes.get(field) for field in size_fields(group)], len(scores)):
                return None
            ranks[group] = scores
        return ranks

    def _marked(self, fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
        return fields if self.rules.lost_is_unknown else fields | {PRESENT: b""}

    def _counts_at(self, s: int) -> Counts:
        i = self.story.history[s - 1]
        document = self.documents.all[i]
        return {group: Group(1, (Sum(document["x"], 1),)) for group in self._counted[i]} if document else {}

    def _ranks_at(self, s: int) -> Ranks:
        i = self.story.history[s - 1]
        document = self.documents.all[i]
        member = {member_of(KEY): -float(document["x"])} if document else {}
        return {group: member if group in self._counted[i] else {} for group in self.groups}

    def _counted_as(self, held: Facts | None) -> tuple[str, ...]:
        return () if held is None else groups.combinations(self._shape.of(CounterShape)[0].by(held)) or ()

    def _groups_of(self, held: Facts | None) -> tuple[str, ...]:
        return () if held is None else self._shape.tagged[0].groups(held) or ()
