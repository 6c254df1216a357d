"""Visit every state that a protocol can reach, nearest first."""

import gc
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from tests.properties.protocol_model import Violation

Label: TypeAlias = tuple[Any, ...]
State = TypeVar("State", bound=Hashable)
Origins: TypeAlias = dict[State, tuple[State, Label] | None]
"""State -> the state and the step from which it was reached first."""


class Machine(Protocol[State]):
    """What can be searched."""

    def start(self) -> State: ...

    def steps(self, state: State) -> Iterator[tuple[Label, State]]: ...

    def broken(self, state: State) -> bool: ...


@dataclass(frozen=True, slots=True)
class Found:
    states: int
    transitions: int
    trace: tuple[str, ...] | None
    """A shortest way to a state that breaks the claim, or `None` if no state does."""


def explore(protocol: Machine[State]) -> Found:
    """Visit every reachable state; stop at the first that breaks the claim."""
    gc.disable()  # the states hold no cycles: the collector would walk millions of them in vain
    try:
        return _explore(protocol)
    finally:
        gc.enable()


def _explore(protocol: Machine[State]) -> Found:
    start = protocol.start()
    origins: Origins[State] = {start: None}
    waiting = deque((start,))
    transitions = 0
    while waiting:
        state = waiting.popleft()
        try:
            for label, then in protocol.steps(state):
                transitions += 1
                if then in origins:
                    continue
                origins[then] = (state, label)
                if protocol.broken(then):
                    return Found(len(origins), transitions, _trace(origins, then))
                waiting.append(then)
        except Violation as violation:
            return Found(len(origins), transitions, (*_trace(origins, state), str(violation)))
    return Found(len(origins), transitions, None)


def _trace(origins: Origins[State], state: State) -> tuple[str, ...]:
    sentences: list[str] = []
    while (origin := origins[state]) is not None:
        state, (text, *values) = origin
        sentences.append(text.format(*values))
    return tuple(reversed(sentences))
