"""What happened to the week's flights, in order of time, as the steps that writers take.

Departures, delays, arrivals and cancellations are the source's. The moments at which a delay or a cancellation
was announced, the gates and the flights that are filed again are made up.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from neverstale.ops.demo.flights.board import ScheduledFlight

Kind = Literal["gate", "delay", "departure", "arrival", "cancellation", "swap", "refiling"]

ANNOUNCED_DELAY = 15
"""Minutes; the source's own definition of a late flight."""
LONG_DELAY = 60
GATE_BEFORE = timedelta(minutes=90)
SWAP_BEFORE = timedelta(minutes=45)
DELAY_BEFORE = timedelta(minutes=30)
CANCELLED_BEFORE = timedelta(hours=3)
REFILED_BEFORE = timedelta(hours=8)
SWAP_EVERY = 15
REFILED_EVERY = 25
BULK = 20
BULKED: frozenset[Kind] = frozenset(("gate", "delay", "cancellation"))
"""Written many at a time, as systems that feed a board do."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to one flight, or to two that swap their gates."""

    at: datetime
    kind: Kind
    flight: int
    """Place in the week's flights."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The fields that it sets."""
    other: int | None = None
    """With `swap`: the flight that gets this one's gate."""

    @property
    def flights(self) -> tuple[int, ...]:
        return (self.flight,) if self.other is None else (self.flight, self.other)


def happenings(flights: Sequence[ScheduledFlight]) -> list[Happening]:
    """The whole week, in order of time."""
    found = [happening for place, flight in enumerate(flights) for happening in _of_flight(place, flight)]
    found += _swaps(flights)
    found.sort(key=lambda happening: (happening.at, happening.flight))
    return found


def steps(found: Iterable[Happening]) -> Iterator[list[Happening]]:
    """What a writer does at once: one happening, or up to 20 of the bulked kinds.

    A flight's happenings keep their order: whatever concerns a flight in the gathered bulk lets it go first.
    """
    bulk: list[Happening] = []
    for happening in found:
        bulked = happening.kind in BULKED
        if len(bulk) == BULK or (not bulked and any(held.flight in happening.flights for held in bulk)):
            yield bulk
            bulk = []
        if bulked:
            bulk.append(happening)
        else:
            yield [happening]
    if bulk:
        yield bulk


def _of_flight(place: int, flight: ScheduledFlight) -> Iterator[Happening]:
    if place % REFILED_EVERY == 0:
        yield Happening(flight.sched_dep - REFILED_BEFORE, "refiling", place)
    if flight.dep_delay is None:
        gone = {"status": "cancelled", "cancelled": True}
        yield Happening(flight.sched_dep - CANCELLED_BEFORE, "cancellation", place, gone)
        return
    yield Happening(flight.sched_dep - GATE_BEFORE, "gate", place, {"gate": flight.gate})
    yield from _delays(place, flight, flight.dep_delay)
    left = flight.sched_dep + timedelta(minutes=flight.dep_delay)
    yield Happening(left, "departure", place, {"status": "departed", "dep_delay": flight.dep_delay})
    if flight.arr_delay is not None:
        landed = flight.sched_arr + timedelta(minutes=flight.arr_delay)
        yield Happening(landed, "arrival", place, {"status": "arrived", "arr_delay": flight.arr_delay})


def _delays(place: int, flight: ScheduledFlight, minutes: int) -> Iterator[Happening]:
    """A late flight is announced as late; a very late one first as half as late."""
    if minutes >= LONG_DELAY:
        first = {"status": "delayed", "dep_delay": minutes // 2}
        yield Happening(flight.sched_dep - 2 * DELAY_BEFORE, "delay", place, first)
    if minutes >= ANNOUNCED_DELAY:
        known = {"status": "delayed", "dep_delay": minutes}
        yield Happening(flight.sched_dep - DELAY_BEFORE, "delay", place, known)


def _swaps(flights: Sequence[ScheduledFlight]) -> Iterator[Happening]:
    """Every so often two flights that leave the same airport one after the other swap their gates."""
    last: dict[str, int] = {}
    for place, flight in enumerate(flights):
        if flight.cancelled:
            continue
        before = last.get(flight.origin)
        if before is not None and place % SWAP_EVERY == 0:
            yield Happening(flight.sched_dep - SWAP_BEFORE, "swap", before, other=place)
        last[flight.origin] = place
