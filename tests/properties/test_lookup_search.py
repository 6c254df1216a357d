"""The exhaustive search of look-ups: two documents, the values that they have, and who is found by them.

What is searched of lists (`derived_model`) is one document. Here are two, since a value can move from one to the
other: in two writes, in one transaction, by a delete and an insert; both on one partition or each on its own. A
partition has an owner that begins a batch of any of its records, also of some that it has applied before, reads
MongoDB at any version from what it asks for up to now, and applies. The steps are the shipped plans and scripts.

**The claim**: no answer that a reader could have been given of a value, at any version, is valid by the value's tags
although it misses an applied change of who has the value, or of the document that has it. Absences are answers, too.
`NEVERSTALE_TEST_SEARCH=full` searches every story of three commits.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Final, NamedTuple, TypeAlias

import pytest

from neverstale.catalog.declarations import Declarations
from neverstale.catalog.lookups import as_list, list_name
from neverstale.derived import groups, reading
from neverstale.derived.generations import Generation, Generations, encode
from neverstale.derived.plan import Call, Plan, Said, begin
from neverstale.derived.redis_names import PRESENT
from neverstale.derived.store import Behind, begun, check, hashes_of
from neverstale.redis.scripts import Name
from tests.properties.derived_world import NAMES, START
from tests.properties.search import Found, Label, explore
from tests.properties.test_derived_search import NamedGroupsStay, StoredGroupsStay
from tests.support.forms import FULL
from tests.support.lua_collections import CollectionsRedis
from tests.support.lua_redis import Snapshot

KEYS: Final = ("s:a", "s:b")
VALUES: Final = ("v", "w")
DECLARED: Final = Declarations(shown=("x",), lists={list_name("e"): as_list("e")})

Document: TypeAlias = dict[str, Any] | None
Commit: TypeAlias = tuple[tuple[int, Document], ...]
"""What one write, or one transaction, makes of which documents."""
HAS, SHOWS, OTHER, LACKS, GONE = {"e": "v", "x": 1}, {"e": "v", "x": 2}, {"e": "w", "x": 1}, {"x": 1}, None
COMMITS: Final[tuple[Commit, ...]] = (
    *(((0, state),) for state in (HAS, SHOWS, OTHER, LACKS, GONE)),
    *(((1, state),) for state in (HAS, LACKS, GONE)),
    ((0, LACKS), (1, HAS)),
    ((0, GONE), (1, HAS)),
    ((1, LACKS), (0, HAS)),
)
BOTH: Final[tuple[Document, ...]] = (HAS, LACKS)
LONGER: Final[tuple[tuple[tuple[Document, ...], tuple[Commit, ...]], ...]] = (
    (BOTH, (((0, LACKS), (1, HAS)), ((1, LACKS), (0, HAS)), ((0, LACKS), (1, HAS)))),  # there, back and there
    (BOTH, (((0, OTHER),), ((1, HAS),), ((0, GONE),))),
    ((GONE, GONE), (((0, HAS),), ((0, GONE), (1, HAS)), ((1, GONE),))),
)
"""Some stories that are longer than those that are all visited."""
START_WITH: Final[tuple[tuple[Document, ...], ...]] = ((HAS, GONE), (LACKS, LACKS))[: None if FULL else 1]
MOST_COMMITS: Final = 3 if FULL else 2


class Batch(NamedTuple):
    """What an owner has begun: its records from `first` to before `end`."""

    first: int
    end: int
    at_least: int


class State(NamedTuple):
    redis: int
    applied: tuple[int, ...]
    begun: tuple[Batch | None, ...]


class LookupProtocol:
    """What can happen after some commits."""

    def __init__(
        self, first: tuple[Document, ...], commits: Sequence[Commit], partitions: int, plan: type[Plan]
    ) -> None:
        self._plan = plan
        self._redis = CollectionsRedis()
        self._generation = Generation("g", "complete", "here", 1, DECLARED.text, birth=START, partitions=partitions)
        self._known = Generations((self._generation,))
        self._history = [first]
        logs: list[list[tuple[int, int]]] = [[] for _ in range(partitions)]
        """Partition -> version and document of each record."""
        for t, commit in enumerate(commits, START + 1):
            self._history.append(tuple(dict(commit).get(i, one) for i, one in enumerate(self._history[-1])))
            for i, _ in commit:
                logs[i % partitions].append((t, i))
        self._logs = logs
        self._snapshots: list[Snapshot] = []
        self._numbers: dict[Snapshot, int] = {}
        self._begun: dict[tuple[int, int, int, int], tuple[Batch, int]] = {}
        self._contributed: dict[tuple[int, int, Batch, int], tuple[Batch | None, int]] = {}
        self._broken: dict[tuple[int, tuple[int, ...]], bool] = {}

    @property
    def _now(self) -> int:
        return len(self._history)

    def start(self) -> State:
        for key in hashes_of(NAMES, self._generation):
            self._redis.command("HSET", key, PRESENT, b"")
        self._redis.command("SET", NAMES.generations, encode(self._known))
        touched = [[Said("touch", START, (), None)] for _ in KEYS]
        check(self._generation, call := self._planned(touched, KEYS, START, 0), self._run("contribute", call))
        nothing = len(self._logs)
        return State(self._taken(), (0,) * nothing, (None,) * nothing)

    def steps(self, state: State) -> Iterator[tuple[Label, State]]:
        for partition, batch in enumerate(state.begun):
            if batch is not None:
                yield from self._applies(state, partition, batch)
                continue
            for start in range(state.applied[partition] + 1):
                for end in range(start + 1, len(self._logs[partition]) + 1):
                    yield self._begins(state, partition, start, end)

    def _begins(self, state: State, partition: int, start: int, end: int) -> tuple[Label, State]:
        batch, redis = self._begin(state.redis, partition, start, end)
        label = ("the owner of {} begins records {} to {}", partition, start + 1, end)
        return label, state._replace(redis=redis, begun=_with(state.begun, partition, batch))

    def _applies(self, state: State, partition: int, batch: Batch) -> Iterator[tuple[Label, State]]:
        for s in range(batch.at_least, self._now + 1):
            again, redis = self._contribute(state.redis, partition, batch, s)
            done = state.applied[partition] if again else max(state.applied[partition], batch.end)
            applied, begun = _with(state.applied, partition, done), _with(state.begun, partition, again)
            yield ("the owner of {} reads at {} and applies", partition, s), State(redis, applied, begun)

    # What scripts did is remembered: each runs once for each distinct input.

    def _begin(self, redis: int, partition: int, start: int, end: int) -> tuple[Batch, int]:
        known = self._begun.get((redis, partition, start, end))
        if known is None:
            self._redis.restore(self._snapshots[redis])
            records = self._logs[partition][start:end]
            newest, keys = max(t for t, _ in records), sorted({KEYS[i] for _, i in records})
            call = begin(NAMES, self._generation, partition, newest, keys)
            told = begun(self._generation, call, self._run("begin", call))
            batch = Batch(start, end, max(told.at_least, newest))
            known = self._begun[redis, partition, start, end] = batch, self._taken()
        return known

    def _contribute(self, redis: int, partition: int, batch: Batch, s: int) -> tuple[Batch | None, int]:
        """The batch once more if it must be read later."""
        known = self._contributed.get((redis, partition, batch, s))
        if known is None:
            self._redis.restore(self._snapshots[redis])
            records = self._logs[partition][batch.first : batch.end]
            documents = sorted({i for _, i in records})
            said = [[self._said(t, i) for t, i in records if i == one] for one in documents]
            call = self._planned(said, [KEYS[i] for i in documents], s, partition)
            again = None
            try:
                check(self._generation, call, self._run("contribute", call))
            except Behind as behind:
                again = batch._replace(at_least=behind.version)
            known = self._contributed[redis, partition, batch, s] = again, self._taken()
        return known

    def broken(self, state: State) -> bool:
        known = self._broken.get((state.redis, state.applied))
        if known is None:
            known = self._broken[state.redis, state.applied] = self._is_broken(state)
        return known

    def _is_broken(self, state: State) -> bool:
        self._redis.restore(self._snapshots[state.redis])
        tags = self._redis.hash(NAMES.of("g").tags(list_name("e")))
        done = {(t, i) for log, end in zip(self._logs, state.applied, strict=True) for t, i in log[:end]}
        for value in VALUES:
            fields = reading.tag_fields(f"s:{value}")
            floor = reading.page_floor(self._generation, START, [tags.get(name) for name in fields])
            assert floor is not None
            if any(t > floor and self._concerns(t, i, value) for t, i in done):
                return True
        return False

    def _concerns(self, t: int, i: int, value: str) -> bool:
        """Whether change t of a document alters what is said of a value."""
        before, after = self._history[t - 2][i], self._history[t - 1][i]
        return before != after and any(one is not None and one.get("e") == value for one in (before, after))

    def _said(self, t: int, i: int) -> Said:
        before, after = self._history[t - 2][i], self._history[t - 1][i]
        if after is None:
            return Said("delete", t, None, None)
        named = {"e": groups.fact_at(after, "e")}
        if before is None:
            return Said("insert", t, None, named)
        changed = tuple(path for path in ("e", "x") if after.get(path) != before.get(path))
        return Said("update", t, changed, named if "e" in changed else {})

    def _planned(self, said: Sequence[Sequence[Said]], keys: Sequence[str], s: int, partition: int) -> Call:
        plan = self._plan(NAMES, self._generation, s)
        found = [self._history[s - 1][KEYS.index(key)] for key in keys]
        held = self._redis.hash(NAMES.of("g").bucket(0))
        facts = [None if one is None else self._generation.shape.facts([one])[0] for one in found]
        plan.add(keys, said, [held.get(key.encode(), b"") for key in keys], facts)
        return plan.call(self._known.epoch, partition)

    def _run(self, script: Name, call: Call) -> Any:
        return self._redis.run(script, call.keys, call.arguments)

    def _taken(self) -> int:
        snapshot = self._redis.snapshot()
        number = self._numbers.setdefault(snapshot, len(self._snapshots))
        if number == len(self._snapshots):
            self._snapshots.append(snapshot)
        return number


def _with(all_of: tuple[Any, ...], place: int, one: Any) -> tuple[Any, ...]:
    return (*all_of[:place], one, *all_of[place + 1 :])


def stories() -> Iterator[tuple[tuple[Document, ...], Sequence[Commit]]]:
    """Each commit changes all documents that it names."""
    yield from LONGER
    for first in START_WITH:
        for commits in product(COMMITS, repeat=MOST_COMMITS):
            state = first
            for commit in commits:
                if any(state[i] == one for i, one in commit):
                    break
                state = tuple(dict(commit).get(i, one) for i, one in enumerate(state))
            else:
                yield first, commits


def search(partitions: int, plan: type[Plan] = Plan) -> tuple[Found, int]:
    """All stories, up to the first that breaks the claim; and how many there were."""
    states = transitions = count = 0
    for first, commits in stories():
        found = explore(LookupProtocol(first, commits, partitions, plan))
        states, transitions, count = states + found.states, transitions + found.transitions, count + 1
        if found.trace is not None:
            told = f"from {first}: {'; '.join(map(str, commits))}"
            return Found(states, transitions, (told, *found.trace)), count
    return Found(states, transitions, None), count


@pytest.mark.timeout(0 if FULL else 120)
@pytest.mark.parametrize("partitions", [1, 2])
def test_no_look_up_that_is_valid_misses_an_applied_change(partitions: int) -> None:
    found, count = search(partitions)
    print(f"\n{partitions} partitions: {count} stories, {found.states:,} states, {found.transitions:,} steps")
    assert found.trace is None, "\n".join(found.trace or ())


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("dropped", [StoredGroupsStay, NamedGroupsStay])
def test_without_one_of_the_two_tags_a_wrong_answer_stays(partitions: int, dropped: type[Plan]) -> None:
    found, _ = search(partitions, dropped)
    print("\n" + "\n  ".join(found.trace or ()))
    assert found.trace is not None
