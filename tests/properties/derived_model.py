"""Derived data of one document as a state machine whose steps are the shipped plans and Lua scripts.

A *story* is what the document was, change by change (t = 2, 3, ...; version 1 is the state before), and the
partition's records: the changes in order, and touches of a walk in any place among them. Of each story every state is
visited: what Redis holds of one generation, how far the partition is applied, what two consumers are doing. `steps`
are all that can happen next:

* the owner of the partition begins a batch: any run of records from the committed position, or from before it
  (redelivery), up to any later one. It raises the partition's register and fetches the contribution (`begin.lua`);
* a consumer has read the document in a snapshot at s, plans and applies (`contribute.lua`). s is anything from what
  it asks for up to now: members lag, and a read may lie long before its script, so every pause between the two is
  among the outcomes. Refused, it begins again, or reads later;
* the other consumer takes the partition over while the first is anywhere in its batch; the first may go on at any
  time or never, and the partition may change hands again;
* Redis loses a key of the generation, as often as the bounds allow.

**The claim**, with *applied* meaning that some consumer's script has taken a batch up to and including a record:

* no page that a reader could have filled, at any version and any moment, is valid by its tags and the list's floor
  (`reading.page_floor`) although it misses an applied change. Pages need not be in the state: readers may fill any
  page at any version at any time, so the tags alone decide;
* a counter that is known (`reading.all_groups`) and a ranking that is whole (`reading.is_whole`) say what the
  document was at the last applied change or later.

**Made small, without losing a behaviour:**

* All changes are committed at the start: who may read anything up to now may also read what a slower writer
  would have left. That "later" reaches further then is made up for by the shorter stories.
* A contribution that was fetched is compared, byte by byte, with the one that is there when the script runs, and a
  plan depends on its bytes alone. So it may as well be fetched at that moment (not with `fetched_early`).
* A tag matters by which of the changes that affect its group's pages it is older than, and the list's floor is a
  raise of all tags. So the floor is folded into the tags, and each is lowered to the last such change.
* Whatever is applied may be left out by the next owner, also if the consumer that applied it was taken for dead
  before it could commit: to deliver it again is a choice, too.
* Documents that differ in nothing but their group's name are met in one order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from neverstale.derived.generations import Generation, Generations, encode
from neverstale.derived.plan import begin
from neverstale.derived.store import Behind, Changed, Lost, OtherGenerations, begun, check
from tests.properties.derived_world import KEY, NAMES, PARTITION, START, TOUCH, World


class Task(NamedTuple):
    """A batch that was begun: records `first` to before `end`."""

    first: int
    end: int
    at_least: int
    held: bytes | None
    """The contribution, if it was fetched early."""


class State(NamedTuple):
    redis: int
    """A snapshot, by its number."""
    applied: int
    """Records before this position are applied; a batch begins at it or, delivered again, anywhere before."""
    lost: int = 0
    """How many keys Redis has lost."""
    owner: Task | None = None
    paused: Task | None = None
    """What the former owner may still do."""


@dataclass(frozen=True, slots=True)
class Bounds:
    stored: bool = True
    """The generation knows the document at START; else it is being built and the walk has not passed."""
    losses: int = 0
    """Fetching is then a look at what is still there, too."""
    fetched_early: bool = False


Label: TypeAlias = tuple[Any, ...]
Next: TypeAlias = tuple[Label, State]


class DerivedProtocol:
    """All steps from a state. What scripts did is remembered, so each runs once for each distinct input."""

    def __init__(self, world: World, bounds: Bounds) -> None:
        self.world = world
        self.bounds = bounds
        self._generation = Generation("g", "complete", "here", 1, world.declared, birth=START, partitions=1)
        self._known = Generations((self._generation,))
        self._now = len(world.story.history)
        self._early = bounds.fetched_early or bounds.losses > 0
        self._begins: dict[tuple[int, int, int], tuple[Task | None, int]] = {}
        self._applies: dict[tuple[int, int, int, bytes | None, int], tuple[str, int, int]] = {}
        self._broken: dict[tuple[int, int], bool] = {}

    def start(self) -> State:
        self.world.redis.restore(())
        self.world.lay(self._generation)
        self.world.redis.command("SET", NAMES.generations, encode(self._known))
        if self.bounds.stored:
            call = self.world.planned(self._generation, self._known, [TOUCH], b"", START)
            check(self._generation, call, self.world.run("contribute", call))
        return State(self._taken(), 0)

    def steps(self, state: State) -> Iterator[Next]:
        yield from self._owner_begins(state)
        for paused, task in ((False, state.owner), (True, state.paused)):
            if task is not None:
                yield from self._applies_batch(state, task, paused)
        if state.owner is not None:
            yield ("the other consumer takes over",), state._replace(owner=None, paused=state.owner)
        if state.lost < self.bounds.losses:
            yield from self._losses(state)

    def broken(self, state: State) -> bool:
        known = self._broken.get((state.redis, state.applied))
        if known is None:
            known = self._broken[state.redis, state.applied] = self._is_broken(state)
        return known

    # Actors

    def _owner_begins(self, state: State) -> Iterator[Next]:
        if state.owner is not None:
            return
        for first in range(state.applied + 1):
            for end in range(first + 1, len(self.world.story.log) + 1):
                task, redis = self._begin(state.redis, first, end)
                label = ("the owner begins records {} to {}", first + 1, end)
                yield label, state._replace(owner=task, redis=redis)

    def _begin(self, redis: int, first: int, end: int) -> tuple[Task | None, int]:
        known = self._begins.get((redis, first, end))
        if known is None:
            self.world.restore(redis)
            newest = max(self.world.story.log[first:end])
            call = begin(NAMES, self._generation, PARTITION, newest, [KEY])
            try:
                answer = begun(self._generation, call, self.world.run("begin", call))
                held = answer.contributions[0] if self._early else None
                task: Task | None = Task(first, end, answer.at_least, held)
            except (Lost, OtherGenerations):
                task = None
            known = self._begins[redis, first, end] = task, self._taken()
        return known

    def _applies_batch(self, state: State, task: Task, paused: bool) -> Iterator[Next]:
        who = "the paused consumer" if paused else "the owner"
        for s in range(task.at_least, self._now + 1):
            answer, version, redis = self._contribute(state.redis, task, s)
            label = ("{} has read at {} and applies records {} to {}: {}", who, s, task.first + 1, task.end, answer)
            applied, after = state.applied, None
            if answer == "done":
                applied = max(applied, task.end)
            elif answer == "behind":
                after = task._replace(at_least=version)
            elif answer == "changed":
                after, redis = self._begin(redis, task.first, task.end)
            owner, other = (state.owner, after) if paused else (after, state.paused)
            yield label, State(redis, applied, state.lost, owner, other)

    def _contribute(self, redis: int, task: Task, s: int) -> tuple[str, int, int]:
        call = redis, task.first, task.end, task.held, s
        known = self._applies.get(call)
        if known is None:
            self.world.restore(redis)
            held = task.held if task.held is not None else self.world.held(self._generation)
            log = self.world.story.log[task.first : task.end]
            made = self.world.planned(self._generation, self._known, log, held, s)
            answer, version = "done", 0
            try:
                check(self._generation, made, self.world.run("contribute", made))
            except (Changed, Lost, OtherGenerations) as refusal:
                answer = type(refusal).__name__.lower()
            except Behind as behind:
                answer, version = "behind", behind.version
            known = self._applies[call] = answer, version, self._taken()
        return known

    def _losses(self, state: State) -> Iterator[Next]:
        redis = self.world.snapshot(state.redis)
        for i, (key, _) in enumerate(redis):
            self.world.redis.restore(redis[:i] + redis[i + 1 :])
            label = ("Redis loses {}", key.decode())
            yield label, state._replace(redis=self._taken(), lost=state.lost + 1)

    def _taken(self) -> int:
        return self.world.take(self._known.all)

    # The claim

    def _is_broken(self, state: State) -> bool:
        log = self.world.story.log[: state.applied]
        changes = [t for t in log if t != TOUCH]
        self.world.restore(state.redis)
        if self.world.redis.command("GET", NAMES.generations) is None:
            return False  # nothing is known
        if self.world.page_misses(self._generation, changes):
            return True
        if not self.bounds.stored and TOUCH not in log:
            return False  # still being built
        could_be = range(max(changes, default=START), self._now + 1)
        return self.world.miscounts(self._generation, could_be)
