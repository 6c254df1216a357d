"""The protocol for one key as a state machine whose steps are the shipped Lua scripts.

A state is what Redis holds for one entry and the two registers that guard it (`applied`, the collection's floor),
how far MongoDB and the pipeline have come, and what every actor remembers. `explore` visits every state that any
interleaving of the actors' steps can reach, within `Bounds`, and stops at the first one that breaks the claim.

**Redis, here, is one cell** (`neverstale.redis.cells`): the keys of one hash tag, which lie on one node, and of
which a step takes several at once: entries, registers, the account of what is applied. One Redis is one cell or many,
a cluster is many. No step takes keys of two cells, no actor carries over to one what it has learned of another, and
nothing is claimed of two together; so what holds of one cell in every reachable state holds of each. What is special
to cells is outside of it: that a document is looked for in the right one (`neverstale.redis.partition_counts`: the
former cells are told nothing more, so their watermarks stand), that nothing is corrected while a slot is being moved,
and that all partitions write a resource's derived cell, which `derived_cell_model` searches.

**Actors and their steps** (each step is atomic; anybody may pause for ever or vanish between two):

* a writer commits change t (t = 2, 3, ...; version 1 is the state before). Every t may be a change of the
  document, an event that raises the floor, or both.
* consumers, any number of them: raise `applied` to t; invalidate the entry as of t; raise the floor to t; or, where
  Redis refuses scripts for lack of memory, delete in one command what they would write; or, where records were lost,
  forget the floor. Every delivery may be lost, repeated, late and out of order, also by a consumer that was paused
  after its raise.
* refreshers: an invalidation may hand its consumer a lease; it then reads a snapshot at some s >= t and fills.
* readers: read the floor (unknown: answer from MongoDB, cache nothing); lease; fetch `applied` (unknown: give up);
  read a snapshot at some s, `applied` <= s <= present, as a lagging member may answer; fill.
* claimants: claim the unknown registers; ask for the present time; try to establish both.
* Redis: the entry or any register is evicted or expires at any moment, or all at once (flush, restart); a lease runs
  out. With `failovers`, a replica that holds any earlier state takes over, at any time and again and again. What it
  holds is what was applied to it, no more; what was applied since to the one before it comes again.

**The claim.** A change is *applied* when its steps have run: raise and invalidate, or the floor's raise, or the DEL;
and every change up to the present is when the floor is forgotten.
In no reachable state does the cache serve a value read before an applied change, and no reader that began after a
change was applied is answered such a value from the cache, whatever floor it read before. "Serve" is what
`lease.lua` itself answers for the present floor; while the floor is unknown nothing is served. After a failover
*applied* is what was applied to the Redis that took over, as it says itself (`reach.lua`).

**Made small, without losing a behaviour:**

* A snapshot read does not touch Redis, and the versions it may answer with only grow in number while time passes. So
  the read is one step with the fill that follows; every earlier read is among its outcomes. Likewise a claimant's
  question for the time is one step with `establish`: any time between the claim and now.
* Scripts compare tokens and nonces for equality only, so they are renamed: the one that Redis holds, and all others.
  A token that Redis no longer holds never returns. Hence retries are unlimited.
* Readers are alike, so are refreshers and claimants: their memories are kept sorted.
* The body under a stale entry decides nothing (`tests/contract/test_scripts_agree.py` proves it) and is cut off.
* Of the changes whose `applied` was raised, and of those applied, only the latest counts: raising and applying an
  earlier one changes nothing that a later one has not.
* Entries do not expire by clock but at any time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from neverstale.redis.scripts import Name
from tests.properties.protocol_scripts import LEASE_OVER, LEASE_RUNS, ProtocolScripts
from tests.properties.protocol_state import (
    HERE,
    Claimant,
    Reader,
    Refresher,
    Replica,
    State,
    caught_up,
    distinct,
    emptied,
    failed_over,
    known,
    minus,
    plus,
    text_of,
    version_of,
    with_entry,
    with_new_lease,
    with_nonces,
)

START: Final = 1
"""The version of the state before the first change."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of everything there is at one moment; how often it comes and goes is not bounded."""

    changes: int = 2
    readers: int = 2
    refreshers: int = 0
    claimants: int = 0
    """More than none: registers vanish (evicted, flushed) and are established again."""
    floors: bool = False
    """The floor rises, and readers are slow between reading it and leasing."""
    failovers: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What the actors, not the scripts, have to keep. Each can be dropped, to see what it is good for."""

    readers_keep_to_applied: bool = True
    applied_is_fetched_after_the_lease: bool = True
    unknown_applied_is_not_zero: bool = True
    unknown_floor_is_not_zero: bool = True
    applied_is_raised_before_invalidating: bool = True
    time_is_asked_after_the_claim: bool = True
    redis_says_what_was_applied_to_it: bool = True


Label: TypeAlias = tuple[Any, ...]
"""A sentence with gaps, and what fills them."""
Step: TypeAlias = tuple[Label, State]


class Violation(Exception):
    """A read that began after a change was applied was answered with an older value."""


class Protocol:
    """All steps that any actor can take from a state."""

    def __init__(self, bounds: Bounds, rules: Rules | None = None, scripts: Mapping[Name, str] | None = None) -> None:
        self.bounds = bounds
        self._rules = rules or Rules()
        self._scripts = ProtocolScripts(scripts)

    def start(self) -> State:
        register = text_of(START)
        replica = Replica(None, register, register, START, START) if self.bounds.failovers else None
        return State(None, register, register, START, START, START, replica=replica)

    def steps(self, state: State) -> Iterator[Step]:
        """Every step and the state after it. Raises `Violation` if a step itself serves a stale value."""
        yield from self._writer(state)
        yield from self._consumers(state)
        yield from self._refreshers(state)
        yield from self._readers(state)
        yield from self._evictions(state)
        if self.bounds.claimants:
            yield from self._lost_records(state)
            yield from self._lost_registers(state)
            yield from self._claimants(state)
        if self.bounds.failovers:
            yield from self._failover(state)

    def broken(self, state: State) -> bool:
        """Whether a reader that begins now would be served a value older than an applied change."""
        floor = self._floor_of_a_reader(state)
        if state.entry is None or floor is None:
            return False
        served, _ = self._scripts.lease(state.entry, floor)
        return isinstance(served, int) and served < state.done

    def _floor_of_a_reader(self, state: State) -> int | None:
        """`None`: unknown, so it reads MongoDB and lets the cache alone."""
        if known(state.floor):
            return version_of(state.floor)
        return None if self._rules.unknown_floor_is_not_zero else START

    def _writer(self, state: State) -> Iterator[Step]:
        if state.now < START + self.bounds.changes:
            yield ("change {} is committed", state.now + 1), state._replace(now=state.now + 1)

    def _consumers(self, state: State) -> Iterator[Step]:
        first = self._rules.applied_is_raised_before_invalidating
        for t in range(START + 1, state.now + 1):
            raised = state._replace(applied=self._scripts.lift(state.applied, t))
            yield ("a consumer raises `applied` to {}", t), _half(raised, t, first=first)
            yield from self._invalidations(state, t)
            if self.bounds.floors:
                floor = self._scripts.lift(state.floor, t)
                yield ("a consumer raises the floor to {}", t), _done(state._replace(floor=floor), t)
            if self.bounds.claimants:
                yield from self._deletions(state, t)

    def _invalidations(self, state: State, t: int) -> Iterator[Step]:
        first = not self._rules.applied_is_raised_before_invalidating
        letter, entry = self._scripts.invalidate(state.entry, t, b"n")
        label = ("a consumer invalidates as of {}: {}", t, letter)
        yield label, _half(with_entry(state, entry), t, first=first)
        if len(state.refreshers) < self.bounds.refreshers:
            letter, entry = self._scripts.invalidate(state.entry, t, b"r")
            if letter == "r":
                then = _half(with_new_lease(state, entry), t, first=first)
                label = ("a consumer invalidates as of {}: {}", t, letter)
                yield label, then._replace(refreshers=plus(then.refreshers, Refresher(HERE, t)))

    def _deletions(self, state: State, t: int) -> Iterator[Step]:
        """What a consumer does instead where Redis has no memory for scripts: one DEL of all that it would write."""
        applied = ("no memory: the consumer of {} deletes `applied` and the entry", t)
        yield applied, _done(with_nonces(with_entry(state, None)._replace(applied=None)), t)
        if self.bounds.floors:
            floor = ("no memory: the consumer of {} deletes `applied` and the floor", t)
            yield floor, _done(with_nonces(state._replace(applied=None, floor=None)), t)

    def _lost_records(self, state: State) -> Iterator[Step]:
        """A consumer does not know what it missed. It forgets the floor, which voids all that was read before now."""
        if state.now > START:
            forgotten = _done(with_nonces(state._replace(floor=None)), state.now)
            yield ("records up to {} were lost: a consumer forgets the floor", state.now), forgotten

    def _refreshers(self, state: State) -> Iterator[Step]:
        for i, refresher in distinct(state.refreshers):
            rest = state._replace(refreshers=minus(state.refreshers, i))
            yield ("a refresher gives up",), rest
            for s in range(refresher.version, state.now + 1):
                answer, entry = self._scripts.fill(state.entry, refresher.holders & HERE, s)
                yield ("a refresher reads at {} and fills: {}", s, answer), with_entry(rest, entry)

    def _readers(self, state: State) -> Iterator[Step]:
        floor = self._floor_of_a_reader(state)
        if len(state.readers) < self.bounds.readers and floor is not None:
            yield from self._reader_begins(state, floor)
        for i, reader in distinct(state.readers):
            rest = state._replace(readers=minus(state.readers, i))
            yield ("a reader gives up",), rest
            if reader.step == "began":
                yield from self._reader_leases(rest, reader)
            elif reader.step == "leased":
                yield from self._reader_fetches(rest, reader)
            else:
                yield from self._reader_fills(rest, reader)

    def _reader_begins(self, state: State, floor: int) -> Iterator[Step]:
        reader = Reader("began", floor, state.done)
        if not self._rules.applied_is_fetched_after_the_lease:
            if known(state.applied):
                early = reader._replace(applied=version_of(state.applied))
                label: Label = ("a reader fetches `applied` before its lease: {}", early.applied)
                yield label, state._replace(readers=plus(state.readers, early))
        elif self.bounds.floors:
            label = ("a reader begins, the floor is {}", reader.version)
            yield label, state._replace(readers=plus(state.readers, reader))
        else:
            yield from self._reader_leases(state, reader)

    def _reader_leases(self, rest: State, reader: Reader) -> Iterator[Step]:
        answer, entry = self._scripts.lease(rest.entry, reader.version)
        if isinstance(answer, int):
            if answer < reader.other:
                raise Violation(f"a read that began after change {reader.other} was applied gets version {answer}")
        elif answer == "granted":
            then = with_new_lease(rest, entry)
            leased = Reader("bound", reader.applied, HERE) if reader.applied else Reader("leased", 0, HERE)
            yield ("a reader leases",), then._replace(readers=plus(then.readers, leased))

    def _reader_fetches(self, rest: State, reader: Reader) -> Iterator[Step]:
        if known(rest.applied):
            bound = version_of(rest.applied)
        elif self._rules.unknown_applied_is_not_zero:
            return
        else:
            bound = START
        lowest = bound if self._rules.readers_keep_to_applied else START
        bounded = Reader("bound", lowest, reader.other)
        yield ("a reader fetches `applied`: {}", bound), rest._replace(readers=plus(rest.readers, bounded))

    def _reader_fills(self, rest: State, reader: Reader) -> Iterator[Step]:
        for s in range(reader.version, rest.now + 1):
            answer, entry = self._scripts.fill(rest.entry, reader.other & HERE, s)
            yield ("a reader reads at {} and fills: {}", s, answer), with_entry(rest, entry)

    def _evictions(self, state: State) -> Iterator[Step]:
        if state.entry is not None:
            yield ("the entry is evicted or expires",), with_entry(state, None)
            if state.entry[51:64] == LEASE_RUNS:
                over = state.entry[:51] + LEASE_OVER + state.entry[64:]
                yield ("the lease runs out",), state._replace(entry=over)

    def _lost_registers(self, state: State) -> Iterator[Step]:
        if state.applied is not None:
            yield ("`applied` is evicted or expires",), with_nonces(state._replace(applied=None))
        if state.floor is not None:
            yield ("the floor is evicted or expires",), with_nonces(state._replace(floor=None))
        yield ("Redis is flushed",), emptied(state)

    def _claimants(self, state: State) -> Iterator[Step]:
        if len(state.claimants) < self.bounds.claimants and None in (state.applied, state.floor):
            applied, floor = self._scripts.claim(state.applied, state.floor)
            claimants = (*state.claimants, Claimant(-1, state.now))
            claimed = state._replace(applied=applied, floor=floor, claimants=claimants)
            yield ("a consumer claims the unknown registers",), with_nonces(claimed)
        for i, claimant in distinct(state.claimants):
            rest = state._replace(claimants=minus(state.claimants, i))
            yield ("a claimant gives up",), with_nonces(rest)
            since = claimant.since if self._rules.time_is_asked_after_the_claim else START
            for present in range(since, state.now + 1):
                applied, floor = self._scripts.establish(state.applied, state.floor, claimant.nonce, present)
                label = ("a claimant, told that it is {}, establishes", present)
                yield label, with_nonces(rest._replace(applied=applied, floor=floor))

    def _failover(self, state: State) -> Iterator[Step]:
        yield ("the replica catches up",), caught_up(state)
        after = failed_over(state)
        if not self._rules.redis_says_what_was_applied_to_it:
            after = after._replace(begun=state.begun, done=state.done)
        yield ("the replica takes over",), after


def _half(state: State, t: int, *, first: bool) -> State:
    """One of the two steps that apply a change has run: the first begins it, the second completes it."""
    if first:
        return state if t <= state.begun else state._replace(begun=t)
    return _done(state, t) if t <= state.begun else state


def _done(state: State, t: int) -> State:
    return state if t <= state.done else state._replace(done=t)
