"""A generation from its claim to its use as a state machine of the shipped transitions, plans and scripts.

To what `derived_model` has comes time: changes are committed one by one, and each is published some time later.

* a consumer claims a generation beside the one in use (or beside none), asks the cluster for the time, and writes
  it as the birth (`Generations.claim`, `establish`, `agree.lua`);
* a walker that sees it written asks for the time again, reads at some s from then on whether the document is there,
  publishes a `touch` if so, and then `rebuilt`;
* consumers begin a batch for every generation that the register names, or named some time ago. If it names others by
  the time they apply it, they look, and begin again. After a batch with `rebuilt` they say so in the register;
* the partition changes hands as in `derived_model`.

**The claim**: no page of any generation that has a birth is valid although it misses an applied change, and as soon
as a generation is complete its counters and rankings say what the document was at the last applied change or later.

Made small like `derived_model`, but a change that is not yet committed cannot be read here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from neverstale.derived.generations import Generation, Generations, decode, encode
from neverstale.derived.plan import begin
from neverstale.derived.store import Behind, Changed, Lost, OtherGenerations, begun, check
from tests.properties.derived_world import KEY, NAMES, PARTITION, START, TOUCH, World

REBUILT = -1
"""In the partition: the walk has passed all documents."""
OLD, NEW = "old", "new"


class Task(NamedTuple):
    first: int
    end: int
    known: int
    """The register that it was begun with."""
    at_least: int


class State(NamedTuple):
    redis: int
    now: int
    """Changes up to this version are committed."""
    published: int
    """Changes up to this version are in the partition."""
    log: tuple[int, ...]
    applied: int
    claimed_at: int = 0
    """The time when the new generation was claimed, until its birth is written."""
    walking_from: int = 0
    walked: bool = False
    owner: Task | None = None
    paused: Task | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    beside_another: bool = False
    """A complete generation is in use."""
    delivered_again: bool = True


@dataclass(frozen=True, slots=True)
class Order:
    """What actors have to keep. Each can be dropped, to see what it is good for."""

    time_is_asked_after_the_claim: bool = True
    walk_begins_after_the_birth_is_written: bool = True
    reads_from_the_birth_on: bool = True
    complete_when_applied: bool = True
    """Else as soon as the walk has published its end."""


Label: TypeAlias = tuple[Any, ...]
Next: TypeAlias = tuple[Label, State]


class RebuildProtocol:
    """All steps from a state."""

    def __init__(self, world: World, bounds: Bounds, order: Order | None = None) -> None:
        self.world = world
        self.bounds = bounds
        self.order = order or Order()
        self._generations = [Generation(name, "claimed", "here", 1, world.declared) for name in (OLD, NEW)]
        self._registers: list[Generations] = []
        self._decoded: dict[int, Generations] = {}
        self._begins: dict[tuple[int, int, int, int, tuple[int, ...]], tuple[Task | None, int]] = {}
        self._applies: dict[tuple[int, Task, tuple[int, ...], int], tuple[str, int, int]] = {}
        self._broken: dict[tuple[int, int, tuple[int, ...]], bool] = {}

    def start(self) -> State:
        self.world.redis.restore(())
        known = Generations(self._old())
        for one in known.all:
            self.world.lay(one)
        self.world.redis.command("SET", NAMES.generations, encode(known))
        for one in known.all:
            call = self.world.planned(one, known, [TOUCH], b"", START)
            check(one, call, self.world.run("contribute", call))
        return State(self._taken(), START, START, (), 0)

    def steps(self, state: State) -> Iterator[Next]:
        if state.now < len(self.world.story.history):
            yield ("change {} is committed", state.now + 1), state._replace(now=state.now + 1)
        if state.published < state.now:
            t = state.published + 1
            yield ("change {} is published", t), state._replace(published=t, log=(*state.log, t))
        yield from self._claimant(state)
        yield from self._walker(state)
        yield from self._owner_begins(state)
        for paused, task in ((False, state.owner), (True, state.paused)):
            if task is not None:
                yield from self._applies_batch(state, task, paused)
        if state.owner is not None:
            yield ("the other consumer takes over",), state._replace(owner=None, paused=state.owner)

    def broken(self, state: State) -> bool:
        call = state.redis, state.now, state.log[: state.applied]
        known = self._broken.get(call)
        if known is None:
            known = self._broken[call] = self._is_broken(state)
        return known

    # Actors

    def _claimant(self, state: State) -> Iterator[Next]:
        register = self._register(state)
        new = register.of(NEW)
        if new is None and not state.claimed_at and not state.walking_from:
            label = ("a generation is claimed",)
            yield label, self._agree(state, register.claim(self._generations[1]))._replace(claimed_at=state.now)
        if new is not None and new.phase == "claimed":
            since = state.claimed_at if self.order.time_is_asked_after_the_claim else START
            for birth in range(since, state.now + 1):
                then = self._agree(state, register.establish(NEW, birth))
                yield ("its birth is {}", birth), then._replace(claimed_at=0)

    def _walker(self, state: State) -> Iterator[Next]:
        new = self._register(state).of(NEW)
        if new is None or state.walked:
            return
        if not state.walking_from:
            if new.birth is not None or not self.order.walk_begins_after_the_birth_is_written:
                yield ("a walk begins",), state._replace(walking_from=state.now)
            return
        if state.log.count(TOUCH) == 0:
            for s in range(state.walking_from, state.now + 1):
                if self.world.is_there(s):
                    yield ("it reads at {} and publishes a touch", s), state._replace(log=(*state.log, TOUCH))
        absent = any(not self.world.is_there(s) for s in range(state.walking_from, state.now + 1))
        if TOUCH in state.log or absent:
            then = state._replace(log=(*state.log, REBUILT), walked=True)
            if not self.order.complete_when_applied:
                then = self._agree(then, self._register(then).rebuilt(NEW, PARTITION, 1))
            yield ("it publishes its end",), then

    def _owner_begins(self, state: State) -> Iterator[Next]:
        if state.owner is not None:
            return
        present = self._register(state)
        for known in (present, *self._earlier(present)):
            for first in range(0 if self.bounds.delivered_again else state.applied, state.applied + 1):
                for end in range(first + 1, len(state.log) + 1):
                    task, redis = self._begin(state, first, end, known)
                    phases = ", ".join(f"{one.id} {one.phase}" for one in known.all)
                    label = ("the owner begins records {} to {} for [{}]", first + 1, end, phases)
                    yield label, state._replace(owner=task, redis=redis)

    def _earlier(self, present: Generations) -> Iterator[Generations]:
        """What the register was before, as a consumer may still know it. That there was no generation at all is
        something that none relies on without looking."""
        new = present.of(NEW)
        if new is None:
            return
        old = self._old()
        if old:
            yield Generations(old)
        if new.phase != "claimed":
            yield Generations((*old, self._generations[1]))
        if new.phase == "complete":
            yield Generations((*old, replace(new, phase="building", partitions=0, rebuilt=frozenset())))

    def _old(self) -> tuple[Generation, ...]:
        if not self.bounds.beside_another:
            return ()
        complete = replace(self._generations[0], phase="complete", birth=START, partitions=1)
        return (replace(complete, rebuilt=frozenset((PARTITION,))),)

    def _begin(self, state: State, first: int, end: int, known: Generations) -> tuple[Task | None, int]:
        log = state.log[first:end]
        call = state.redis, self._number(known), first, end, log
        answered = self._begins.get(call)
        if answered is None:
            self.world.restore(state.redis)
            newest = at_least = max(*log, START)
            try:
                for one in known.all:
                    made = begin(NAMES, one, PARTITION, newest, [KEY])
                    answer = begun(one, made, self.world.run("begin", made))
                    at_least = max(at_least, answer.at_least if self.order.reads_from_the_birth_on else newest)
                task: Task | None = Task(first, end, self._number(known), at_least)
            except Lost:
                task = None
            answered = self._begins[call] = task, self._taken()
        return answered

    def _applies_batch(self, state: State, task: Task, paused: bool) -> Iterator[Next]:
        who = "the paused consumer" if paused else "the owner"
        for s in range(task.at_least, state.now + 1):
            answer, version, redis = self._contribute(state, task, s)
            label = ("{} has read at {} and applies records {} to {}: {}", who, s, task.first + 1, task.end, answer)
            then, after = state._replace(redis=redis), None
            if answer == "done":
                then = then._replace(applied=max(state.applied, task.end))
                if REBUILT in state.log[task.first : task.end]:
                    then = self._agree(then, self._register(then).rebuilt(NEW, PARTITION, 1))
            elif answer == "behind":
                after = task._replace(at_least=version)
            else:
                after, redis = self._begin(then, task.first, task.end, self._register(then))
                then = then._replace(redis=redis)
            yield label, then._replace(paused=after) if paused else then._replace(owner=after)

    def _contribute(self, state: State, task: Task, s: int) -> tuple[str, int, int]:
        """All plans of a batch, in one pipeline: one of them may be refused and another applied."""
        log = tuple(t for t in state.log[task.first : task.end] if t != REBUILT)
        call = state.redis, task, log, s
        known = self._applies.get(call)
        if known is None:
            self.world.restore(state.redis)
            register = self._registers[task.known]
            answer, version = "done", 0
            for one in register.all if log else ():
                made = self.world.planned(one, register, log, self.world.held(one), s)
                try:
                    check(one, made, self.world.run("contribute", made))
                except (Changed, Lost, OtherGenerations) as refusal:
                    answer = type(refusal).__name__.lower()
                except Behind as behind:
                    answer, version = "behind", behind.version
            known = self._applies[call] = answer, version, self._taken()
        return known

    # The register

    def _register(self, state: State) -> Generations:
        known = self._decoded.get(state.redis)
        if known is None:
            self.world.restore(state.redis)
            known = self._decoded[state.redis] = decode(self.world.redis.command("GET", NAMES.generations))
        return known

    def _agree(self, state: State, then: Generations) -> State:
        before = self._register(state)
        self.world.restore(state.redis)
        if before.of(NEW) is None and then.of(NEW) is not None:
            self.world.lay(self._generations[1])
        if then != before:
            assert self.world.redis.run("agree", [NAMES.generations], [before.epoch, encode(then)])
            for one in before.dropped_by(then):
                for key, _ in self.world.redis.snapshot():
                    if key.startswith(NAMES.of(one.id).base.encode() + b":"):
                        self.world.redis.command("DEL", key)
        return state._replace(redis=self._taken())

    def _number(self, register: Generations) -> int:
        if register not in self._registers:
            self._registers.append(register)
        return self._registers.index(register)

    def _taken(self) -> int:
        return self.world.take(self._generations)

    # The claim

    def _is_broken(self, state: State) -> bool:
        changes = [t for t in state.log[: state.applied] if t > START]
        could_be = range(max(changes, default=START), state.now + 1)
        register = self._register(state)
        self.world.restore(state.redis)
        for one in register.all:
            if one.birth is not None and self.world.page_misses(one, changes):
                return True
            if one.phase == "complete" and self.world.miscounts(one, could_be):
                return True
        return False
