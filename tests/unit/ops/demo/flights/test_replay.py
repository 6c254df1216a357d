"""The week's happenings and the steps in which they are written."""

from collections import Counter
from functools import cache

from neverstale.ops.demo.flights.board import week
from neverstale.ops.demo.flights.replay import BULK, BULKED, Happening, happenings, steps


@cache
def found() -> list[Happening]:
    return happenings(week().flights)


def of_kind(kind: str) -> list[Happening]:
    return [happening for happening in found() if happening.kind == kind]


def test_happenings_are_in_order_of_time() -> None:
    times = [happening.at for happening in found()]
    assert times == sorted(times)


def test_every_flight_departs_once_or_is_cancelled_once() -> None:
    ends = Counter(happening.flight for happening in found() if happening.kind in ("departure", "cancellation"))
    assert len(ends) == 6104 and set(ends.values()) == {1}


def test_only_flights_that_left_arrive() -> None:
    left = {happening.flight for happening in of_kind("departure")}
    assert {happening.flight for happening in of_kind("arrival")} < left


def test_flights_arrive_after_they_left() -> None:
    left = {happening.flight: happening.at for happening in of_kind("departure")}
    assert all(left[arrival.flight] < arrival.at for arrival in of_kind("arrival"))


def test_only_late_flights_are_announced_as_late() -> None:
    flights = week().flights
    assert {happening.flight for happening in of_kind("delay")} == {
        place for place, flight in enumerate(flights) if (flight.dep_delay or 0) >= 15
    }


def test_flights_that_swap_gates_leave_from_the_same_airport() -> None:
    flights = week().flights
    swaps = of_kind("swap")
    assert swaps
    assert all(len(swap.flights) == 2 and len({flights[p].origin for p in swap.flights}) == 1 for swap in swaps)


def test_steps_hold_every_happening_once() -> None:
    written = [happening for step in steps(found()) for happening in step]
    assert Counter(map(id, written)) == Counter(map(id, found()))


def test_only_some_kinds_are_written_in_bulk() -> None:
    for step in steps(found()):
        assert len(step) <= BULK
        assert len(step) == 1 or {happening.kind for happening in step} <= BULKED


def test_a_flight_keeps_the_order_of_its_happenings() -> None:
    written: dict[int, list[Happening]] = {}
    for step in steps(found()):
        for happening in step:
            for flight in happening.flights:
                written.setdefault(flight, []).append(happening)
    assert all(story == sorted(story, key=lambda happening: happening.at) for story in written.values())
