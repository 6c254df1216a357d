"""The protocol for one key as a state machine whose steps are the shipped Lua scripts.

A state is what Redis holds for one entry and the two registers that guard it (`applied`, the collection's floor),
how far MongoDB and the pipeline have come, and what every actor remembers. `explore` visits every state that any
interleaving of the actors' steps can reach, within `Bounds`, and stops at the first one that breaks the claim.

**Actors and their steps** (each step is atomic; anybody may pause for ever or vanish between two):

* a writer commits change t (t = 2, 3, ...; version 1 is the state before). Every t may be a change of the
  document, an event that raises the floor, or both.
* consumers, any number of them: raise `applied` to t; invalidate the entry as of t; or, where Redis refuses
  scripts for lack of memory, delete registers and entry in one command; raise the floor to t. Every delivery may be
  lost, repeated, late and out of order, also by a consumer that was paused after its raise.
* refreshers: an invalidation may hand its consumer a lease; it then reads a snapshot at some s >= t and fills.
* readers: read the floor (unknown: answer from MongoDB, cache nothing); lease; fetch `applied` (unknown: give up);
  read a snapshot at some s, `applied` <= s <= present, as a lagging member may answer; fill.
* claimants: claim the unknown registers; ask for the present time; establish.
* Redis: the entry or any register is evicted or expires at any moment, or all at once (flush, restart); a lease runs
  out. With `failover`, a replica that holds any earlier state takes over; its new identity makes a consumer ask for
  the present time and raise `applied` and the floor to it.

**The claim.** Let *applied* mean that the steps of a change have all run: raise and invalidate, or its floor's raise.
In no reachable state does the cache serve a value read before an applied change, and no reader that began after a
change was applied is answered such a value from the cache, whatever floor it read before. "Serve" is what
`lease.lua` itself answers for the present floor; while the floor is unknown nothing is served. After a failover the
claim is suspended until the new identity is adopted.

**Made small, without losing a behaviour:**

* A snapshot read does not touch Redis, and the versions it may answer with only grow in number while time passes. So
  the read is one step with the fill that follows; every earlier read is among its outcomes. Likewise a claimant's
  question for the time is one step with `establish`: any time between the claim and now.
* Scripts compare tokens and nonces for equality only, so they are renamed: the one that Redis holds, and all others.
  A token that Redis no longer holds never returns. Hence retries are unlimited.
* Readers are alike, so are refreshers and claimants: their memories are kept sorted.
* The body under a stale entry decides nothing (`tests/contract/test_scripts.py` proves it) and is cut off.
* Of the changes whose `applied` was raised, and of those applied, only the latest counts: raising and applying an
  earlier one changes nothing that a later one has not.
* Entries do not expire by clock but at any time.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from tests.lua_redis import LuaRedis

KEY: Final = b"entry"
APPLIED: Final = b"applied"
FLOOR: Final = b"floor"
DIGEST: Final = b"d" * 16
ETAG: Final = b"e" * 16
NONE: Final = b"0" * 16
LIVE: Final = b"a" * 16
"""The token that the entry holds."""
NEW: Final = b"b" * 16
DEAD: Final = b"f" * 16
"""Every token and nonce that Redis does not hold."""
NOW_MS: Final = 1_700_000_000_000
LEASE_MS: Final = 5_000
LEASE_RUNS: Final = b"%013d" % (NOW_MS + LEASE_MS)
LEASE_OVER: Final = b"%013d" % NOW_MS
START: Final = 1
"""The version of the state before the first change."""

Bytes: TypeAlias = bytes | None


class Reader(NamedTuple):
    step: str
    """`began` (knows a floor), `leased`, `bound` (knows `applied`)."""
    version: int
    """`began`: the floor; `bound`: the lowest version that it may read at."""
    other: int
    """`began`: the last change applied when it began; else 1 if the entry holds its token."""


class Refresher(NamedTuple):
    live: int
    version: int


class Claimant(NamedTuple):
    nonce: int
    """1 or 2 if a register holds it, 0 if none does."""
    since: int
    """The present version when it claimed."""


class Replica(NamedTuple):
    entry: Bytes
    applied: Bytes
    floor: Bytes


class State(NamedTuple):
    entry: Bytes
    applied: Bytes
    floor: Bytes
    now: int
    """The last committed change."""
    begun: int
    """The last change that `applied` was raised for."""
    done: int
    """The last applied change."""
    readers: tuple[Reader, ...] = ()
    refreshers: tuple[Refresher, ...] = ()
    claimants: tuple[Claimant, ...] = ()
    replica: Replica | None = None
    adopting: int = 0
    """The present version when a consumer saw a new identity; 0 if nobody has to adopt one."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of everything there is at one moment; how often it comes and goes is not bounded."""

    changes: int = 2
    readers: int = 2
    refreshers: int = 0
    claimants: int = 0
    floors: bool = False
    """The floor rises and readers are slow between reading it and leasing."""
    registers_vanish: bool = False
    failovers: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What the actors, not the scripts, have to keep. Each can be dropped, to see what it is good for."""

    readers_keep_to_applied: bool = True
    applied_is_fetched_after_the_lease: bool = True
    unknown_is_not_zero: bool = True
    applied_is_raised_before_invalidating: bool = True
    time_is_asked_after_the_claim: bool = True
    floor_rises_on_a_new_identity: bool = True


Label: TypeAlias = tuple[Any, ...]
Next: TypeAlias = tuple[Label, State]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: how many states there are, and the shortest way to one that breaks the claim."""

    states: int
    transitions: int
    trace: tuple[str, ...] | None


class Violation(Exception):
    """A read that began after a change was applied was answered an older value."""


def text_of(version: int) -> bytes:
    return b"%016x" % version


class Protocol:
    """All steps from a state. Script results are remembered, so each Lua call runs once for each distinct input."""

    def __init__(
        self, bounds: Bounds, rules: Rules | None = None, scripts: Mapping[str, str] | None = None
    ) -> None:
        self.bounds = bounds
        self.rules = rules or Rules()
        self._raises_first = self.rules.applied_is_raised_before_invalidating
        self._redis = LuaRedis(scripts, now_ms=NOW_MS)
        self._texts = [text_of(version) for version in range(bounds.changes + 2)]
        self._memory: dict[tuple[Any, ...], tuple[Any, tuple[Bytes, ...]]] = {}

    def start(self) -> State:
        known = text_of(START)
        replica = Replica(None, known, known) if self.bounds.failovers else None
        return State(None, known, known, START, START, START, replica=replica)

    def steps(self, state: State) -> Iterator[Next]:
        yield from self._writer(state)
        yield from self._consumers(state)
        yield from self._refreshers(state)
        yield from self._readers(state)
        yield from self._redis_itself(state)
        if self.bounds.registers_vanish:
            yield from self._claimants(state)
        if self.bounds.failovers:
            yield from self._failover(state)

    def broken(self, state: State) -> bool:
        """Whether a reader that begins now would be served a value older than an applied change."""
        if state.adopting or state.entry is None or not _known(state.floor):
            return False
        served = self._lease(state.entry, state.floor)[0]
        return isinstance(served, int) and served < state.done

    # Actors

    def _writer(self, state: State) -> Iterator[Next]:
        if state.now <= self.bounds.changes:
            yield ("change {} is committed", state.now + 1), state._replace(now=state.now + 1)

    def _consumers(self, state: State) -> Iterator[Next]:
        for t in range(START + 1, state.now + 1):
            raised = state._replace(applied=self._raise(state.applied, t))
            yield ("a consumer raises `applied` to {}", t), self._half(raised, t, first=self._raises_first)
            yield from self._invalidate(state, t)
            if self.bounds.floors:
                floor = self._raise(state.floor, t)
                yield (
                    ("a consumer raises the floor to {}", t),
                    state._replace(floor=floor, done=max(state.done, t)),
                )
            if self.bounds.registers_vanish:
                emptied = _emptied(state)
                yield (
                    ("no memory: a consumer of {} deletes the registers and the entry", t),
                    emptied._replace(done=max(state.done, t)),
                )

    def _half(self, state: State, t: int, *, first: bool) -> State:
        """One of the two steps that apply a change has run: the first begins it, the second completes it."""
        if first:
            return state if t <= state.begun else state._replace(begun=t)
        return state._replace(done=t) if state.done < t <= state.begun else state

    def _invalidate(self, state: State, t: int) -> Iterator[Next]:
        for refresh in (b"n", b"r") if self.bounds.refreshers else (b"n",):
            if state.entry is None:
                letter, entry = "-", None
            else:
                letter, entry = self._invalidated(state.entry, t, refresh)
            if refresh == b"r" and letter != "r":
                continue
            then = self._half(_with_entry(state, entry), t, first=not self._raises_first)
            label = ("a consumer invalidates as of {}: {}", t, letter)
            yield label, then
            if letter == "r" and len(state.refreshers) < self.bounds.refreshers:
                yield label, then._replace(refreshers=_plus(then.refreshers, Refresher(1, t)))

    def _refreshers(self, state: State) -> Iterator[Next]:
        for i, refresher in _distinct(state.refreshers):
            rest = _minus(state.refreshers, i)
            yield ("a refresher gives up",), state._replace(refreshers=rest)
            for s in range(refresher.version, state.now + 1):
                answer, entry = self._filled(state.entry, refresher.live, s)
                yield (
                    ("a refresher reads at {} and fills: {}", s, answer),
                    _with_entry(state._replace(refreshers=rest), entry),
                )

    def _readers(self, state: State) -> Iterator[Next]:
        if len(state.readers) < self.bounds.readers and _known(state.floor):
            floor = _version(state.floor)
            served_from = 0 if state.adopting else state.done
            yield (
                ("a reader begins, the floor is {}", floor),
                state._replace(readers=_plus(state.readers, Reader("began", floor, served_from))),
            )
        for i, reader in _distinct(state.readers):
            rest = state._replace(readers=_minus(state.readers, i))
            yield ("a reader gives up",), rest
            if reader.step == "began":
                yield from self._reader_leases(rest, reader)
            elif reader.step == "leased":
                yield from self._reader_fetches(rest, reader)
            else:
                yield from self._reader_fills(rest, reader)

    def _reader_leases(self, rest: State, reader: Reader) -> Iterator[Next]:
        answer, entry = self._lease(rest.entry, self._texts[reader.version])
        if isinstance(answer, int):
            if answer < reader.other and not rest.adopting:
                raise Violation(f"a reader that began after change {reader.other} was applied gets version {answer}")
        elif answer == "granted":
            # Whoever held the entry's token before does not any more.
            then = _with_entry(_with_entry(rest, None), entry)
            yield ("a reader leases",), then._replace(readers=_plus(then.readers, Reader("leased", 0, 1)))

    def _reader_fetches(self, rest: State, reader: Reader) -> Iterator[Next]:
        if _known(rest.applied):
            bound = _version(rest.applied)
        elif self.rules.unknown_is_not_zero:
            return
        else:
            bound = START
        if not self.rules.readers_keep_to_applied:
            bound = START
        yield (
            ("a reader fetches `applied`: {}", bound),
            rest._replace(readers=_plus(rest.readers, Reader("bound", bound, reader.other))),
        )

    def _reader_fills(self, rest: State, reader: Reader) -> Iterator[Next]:
        for s in range(reader.version, rest.now + 1):
            answer, entry = self._filled(rest.entry, reader.other, s)
            yield ("a reader reads at {} and fills: {}", s, answer), _with_entry(rest, entry)

    def _claimants(self, state: State) -> Iterator[Next]:
        if len(state.claimants) < self.bounds.claimants and None in (state.applied, state.floor):
            applied, floor = self._claimed(state.applied, state.floor)
            claimant = Claimant(-1, state.now)
            then = state._replace(applied=applied, floor=floor, claimants=(*state.claimants, claimant))
            yield ("a consumer claims the unknown registers",), _renamed(then)
        for i, claimant in _distinct(state.claimants):
            rest = state._replace(claimants=_minus(state.claimants, i))
            yield ("a claimant gives up",), _renamed(rest)
            since = claimant.since if self.rules.time_is_asked_after_the_claim else START
            for present in range(since, state.now + 1):
                applied, floor = self._established(state.applied, state.floor, claimant.nonce, present)
                yield (
                    ("a claimant establishes {}", present),
                    _renamed(rest._replace(applied=applied, floor=floor)),
                )

    def _redis_itself(self, state: State) -> Iterator[Next]:
        if state.entry is not None:
            yield ("the entry is evicted or expires",), _with_entry(state, None)
            if state.entry[51:64] == LEASE_RUNS:
                over = state.entry[:51] + LEASE_OVER + state.entry[64:]
                yield ("the lease runs out",), state._replace(entry=over)
        if self.bounds.registers_vanish:
            if state.applied is not None:
                yield ("`applied` is evicted",), _renamed(state._replace(applied=None))
            if state.floor is not None:
                yield ("the floor is evicted",), _renamed(state._replace(floor=None))
            yield ("Redis is flushed",), _emptied(state)

    def _failover(self, state: State) -> Iterator[Next]:
        replica = Replica(state.entry, state.applied, state.floor)
        yield (
            ("the replica catches up",),
            _with_tokens(state, lambda held: held & 1 | (held & 1) << 1)._replace(replica=replica),
        )
        assert state.replica is not None
        then = _with_tokens(state, lambda held: held & 2 | held >> 1)._replace(
            entry=state.replica.entry,
            applied=state.replica.applied,
            floor=state.replica.floor,
            adopting=state.now,
        )
        began = tuple(reader._replace(other=0) if reader.step == "began" else reader for reader in then.readers)
        yield ("the replica takes over",), then._replace(readers=tuple(sorted(began)))
        if state.adopting and self.rules.floor_rises_on_a_new_identity:
            for present in range(state.adopting, state.now + 1):
                applied, floor = self._raise(state.applied, present), self._raise(state.floor, present)
                yield (
                    ("a consumer adopts the new identity at {}", present),
                    state._replace(applied=applied, floor=floor, done=max(state.done, present), adopting=0),
                )

    # Scripts

    def _run(self, script: str, values: tuple[tuple[bytes, Bytes], ...], *args: bytes | int) -> Any:
        """The answer of a script on these keys, and what they hold afterwards."""
        call = (script, values, args)
        known = self._memory.get(call)
        if known is None:
            self._redis.restore(tuple((key, (value, None)) for key, value in values if value is not None))
            answer = self._redis.run(script, [key for key, _ in values], args)
            held = tuple(self._redis.command("GET", key) for key, _ in values)
            known = self._memory[call] = (answer, held)
        return known

    def _lease(self, entry: Bytes, floor: bytes) -> tuple[int | str, Bytes]:
        """`granted` or `wait`, or the version at which the value was read that is served; and the entry then."""
        (answer,), (then,) = self._run("lease", ((KEY, entry),), NEW, LEASE_MS, floor, DIGEST)
        if answer[0] == b"entry":
            return int(answer[1][96:], 16), then
        return answer[0].decode(), _canonical(then)

    def _filled(self, entry: Bytes, live: int, s: int) -> tuple[str, Bytes]:
        """A fill with what a snapshot read at s finds. Every second version is an absence."""
        kind = b"D" if s % 2 else b"N"
        token = LIVE if live else DEAD
        (answer,), (then,) = self._run("fill", ((KEY, entry),), token, text_of(s), kind, 60_000, ETAG, text_of(s))
        return answer.decode(), _canonical(then)

    def _invalidated(self, entry: bytes, t: int, refresh: bytes) -> tuple[str, Bytes]:
        answer, (then,) = self._run("invalidate", ((KEY, entry),), NEW, LEASE_MS, text_of(t), refresh)
        return answer.decode(), _canonical(then)

    def _raise(self, register: Bytes, t: int) -> Bytes:
        _, (then,) = self._run("raise", ((APPLIED, register),), text_of(t))
        return then  # type: ignore[no-any-return]

    def _claimed(self, applied: Bytes, floor: Bytes) -> tuple[Bytes, Bytes]:
        _, held = self._run("claim", ((APPLIED, applied), (FLOOR, floor)), NEW, LEASE_MS)
        return held  # type: ignore[no-any-return]

    def _established(self, applied: Bytes, floor: Bytes, nonce: int, present: int) -> tuple[Bytes, Bytes]:
        text = text_of(nonce) if nonce else DEAD
        version = text_of(present)
        _, held = self._run("establish", ((APPLIED, applied), (FLOOR, floor)), text, version, version)
        return held  # type: ignore[no-any-return]


def _known(register: Bytes) -> bool:
    return register is not None and register[:1] != b"?"


def _version(register: Bytes) -> int:
    assert register is not None
    return int(register, 16)


def _canonical(entry: Bytes) -> Bytes:
    """Rename the live token; cut off what lies under a stale entry."""
    if entry is None or entry[:1] in b"DN":
        return entry
    if entry[35:51] == NEW:
        entry = entry[:35] + LIVE + entry[51:]
    return entry[:2] + b"-" + entry[3:19] + NONE + entry[35:80] + NONE


def _with_entry(state: State, entry: Bytes) -> State:
    """The entry changed. If it does not hold the same token as before, whoever had that has lost it."""
    if entry == state.entry:
        return state
    if (
        state.entry is not None
        and state.entry[35:51] == LIVE
        and (entry is None or entry[35:51] != LIVE)
        and (state.readers or state.refreshers)
    ):
        state = _with_tokens(state, lambda held: held & 2)
    return state._replace(entry=entry)


def _with_tokens(state: State, change: Callable[[int], int]) -> State:
    """Change in every memory which Redis (bit 0: the present one, bit 1: the replica) holds its token."""
    readers = [
        reader if reader.step == "began" else reader._replace(other=change(reader.other)) for reader in state.readers
    ]
    refreshers = [refresher._replace(live=change(refresher.live)) for refresher in state.refreshers]
    return state._replace(readers=tuple(sorted(readers)), refreshers=tuple(sorted(refreshers)))


def _emptied(state: State) -> State:
    return _renamed(_with_entry(state, None)._replace(applied=None, floor=None))


def _renamed(state: State) -> State:
    """Number the nonces in the order in which the registers hold them; one that none holds is 0."""
    names: dict[bytes, int] = {}
    registers: list[Bytes] = []
    for register in (state.applied, state.floor):
        if register is not None and register[:1] == b"?":
            number = names.setdefault(register[1:17], len(names) + 1)
            register = b"?" + text_of(number) + register[17:]
        registers.append(register)
    claimants = [
        claimant._replace(nonce=names.get(NEW if claimant.nonce < 0 else text_of(claimant.nonce), 0))
        for claimant in state.claimants
    ]
    return state._replace(applied=registers[0], floor=registers[1], claimants=tuple(sorted(claimants)))


def _plus(memories: tuple[Any, ...], memory: Any) -> tuple[Any, ...]:
    return tuple(sorted((*memories, memory)))


def _minus(memories: tuple[Any, ...], i: int) -> tuple[Any, ...]:
    return memories[:i] + memories[i + 1 :]


def _distinct(memories: tuple[Any, ...]) -> Iterator[tuple[int, Any]]:
    """Actors that remember the same do the same."""
    for i, memory in enumerate(memories):
        if i == 0 or memories[i - 1] != memory:
            yield i, memory


def explore(protocol: Protocol) -> Found:
    """Visit every reachable state, nearest first; stop at the first that breaks the claim."""
    start = protocol.start()
    came: dict[State, tuple[State, Label] | None] = {start: None}
    queue = deque((start,))
    transitions = 0
    while queue:
        state = queue.popleft()
        try:
            for label, then in protocol.steps(state):
                transitions += 1
                if then in came:
                    continue
                came[then] = (state, label)
                if protocol.broken(then):
                    return Found(len(came), transitions, _trace(came, then))
                queue.append(then)
        except Violation as violation:
            return Found(len(came), transitions, (*_trace(came, state), str(violation)))
    return Found(len(came), transitions, None)


def _trace(came: dict[State, tuple[State, Label] | None], state: State) -> tuple[str, ...]:
    sentences: list[str] = []
    step = came[state]
    while step is not None:
        before, (text, *values) = step
        sentences.append(text.format(*values))
        step = came[before]
    return tuple(reversed(sentences))
