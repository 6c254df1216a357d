"""What a state of the protocol is: one entry, its two registers, and what every actor remembers.

Scripts compare tokens and nonces for equality only. So they are renamed after every step: the one that Redis holds,
and all that it does not; a token that Redis has lost never returns. Hence retries are not bounded.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

Bytes: TypeAlias = bytes | None

LIVE: Final = b"a" * 16
"""The token that the entry holds."""
NEW: Final = b"b" * 16
"""A token or nonce that a step brings; it is renamed before the step ends."""
DEAD: Final = b"f" * 16
"""Every token and nonce that Redis does not hold."""

HERE: Final = 1
THERE: Final = 2
"""Who holds an actor's token, as bits: the present Redis, its replica."""


class Reader(NamedTuple):
    step: str
    """`began` (knows the floor), `leased`, `bound` (knows `applied`)."""
    version: int
    """`began`: the floor; `bound`: the lowest version that it may read at."""
    other: int
    """`began`: the last change that was applied then; else who holds its token."""
    applied: int = 0
    """`began`, where the rule to fetch `applied` after the lease is dropped: what it was before."""


class Refresher(NamedTuple):
    """A consumer that was handed a lease by its invalidation."""

    holders: int
    version: int


class Claimant(NamedTuple):
    nonce: int
    """The number of the nonce among those that the registers hold, 0 if none does, -1 for a new one."""
    since: int
    """The last change that was committed when it claimed."""


class Replica(NamedTuple):
    entry: Bytes
    applied: Bytes
    floor: Bytes
    begun: int
    done: int


class State(NamedTuple):
    entry: Bytes
    applied: Bytes
    floor: Bytes
    now: int
    """The last committed change."""
    begun: int
    """The last change for which the first of the two steps that apply it has run."""
    done: int
    """The last applied change: that this Redis was told of, by its own account."""
    readers: tuple[Reader, ...] = ()
    refreshers: tuple[Refresher, ...] = ()
    claimants: tuple[Claimant, ...] = ()
    replica: Replica | None = None


def text_of(version: int) -> bytes:
    return b"%016x" % version


def known(register: Bytes) -> bool:
    return register is not None and register[:1] != b"?"


def version_of(register: Bytes) -> int:
    assert register is not None
    return int(register, 16)


def with_entry(state: State, entry: Bytes) -> State:
    """The entry changed. If it does not hold its token any more, whoever had that has lost it."""
    if entry == state.entry:
        return state
    if token_of(state.entry) == LIVE != token_of(entry):
        state = with_holders(state, lambda holders: holders & THERE)
    return state._replace(entry=entry)


def with_new_lease(state: State, entry: Bytes) -> State:
    """The entry holds a new token, so whoever had another has lost it."""
    return with_entry(with_entry(state, None), entry)


def token_of(entry: Bytes) -> Bytes:
    return None if entry is None else entry[35:51]


def with_holders(state: State, change: Callable[[int], int]) -> State:
    """Change in every memory who holds its token."""
    if not state.readers and not state.refreshers:
        return state
    readers = [r if r.step == "began" else r._replace(other=change(r.other)) for r in state.readers]
    refreshers = [r._replace(holders=change(r.holders)) for r in state.refreshers]
    return state._replace(readers=tuple(sorted(readers)), refreshers=tuple(sorted(refreshers)))


def emptied(state: State) -> State:
    return with_nonces(with_entry(state, None)._replace(applied=None, floor=None))


def caught_up(state: State) -> State:
    """The replica holds what the present Redis holds."""
    state = with_holders(state, lambda holders: HERE | THERE if holders & HERE else 0)
    replica = Replica(state.entry, state.applied, state.floor, state.begun, state.done)
    return with_nonces(state._replace(replica=replica))


def failed_over(state: State) -> State:
    """The replica took over, and says itself what was applied to it. Reads that began before are no longer told how
    fresh they are."""
    replica = state.replica
    assert replica is not None
    state = with_holders(state, lambda holders: HERE | THERE if holders & THERE else 0)
    readers = [r._replace(other=0) if r.step == "began" else r for r in state.readers]
    return with_nonces(
        state._replace(
            entry=replica.entry,
            applied=replica.applied,
            floor=replica.floor,
            begun=replica.begun,
            done=replica.done,
            readers=tuple(sorted(readers)),
        )
    )


def with_nonces(state: State) -> State:
    """Number the nonces in the order in which the registers hold them."""
    numbers: dict[bytes, int] = {}

    def renamed(register: Bytes) -> Bytes:
        if register is None or register[:1] != b"?":
            return register
        number = numbers.setdefault(register[1:17], len(numbers) + 1)
        return b"?" + text_of(number) + register[17:]

    applied, floor, replica = renamed(state.applied), renamed(state.floor), state.replica
    if replica is not None:
        replica = replica._replace(applied=renamed(replica.applied), floor=renamed(replica.floor))
    if not numbers and not state.claimants:
        return state
    claimants = [
        claimant._replace(nonce=numbers.get(NEW if claimant.nonce < 0 else text_of(claimant.nonce), 0))
        for claimant in state.claimants
    ]
    return state._replace(applied=applied, floor=floor, claimants=tuple(sorted(claimants)), replica=replica)


def plus(memories: tuple[Any, ...], memory: Any) -> tuple[Any, ...]:
    return tuple(sorted((*memories, memory)))


def minus(memories: tuple[Any, ...], i: int) -> tuple[Any, ...]:
    return memories[:i] + memories[i + 1 :]


def distinct(memories: tuple[Any, ...]) -> Iterator[tuple[int, Any]]:
    """Actors that remember the same do the same: one of them is enough."""
    for i, memory in enumerate(memories):
        if i == 0 or memories[i - 1] != memory:
            yield i, memory
