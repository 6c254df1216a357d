"""When a process that rests wakes up."""

import pytest

from neverstale.role.ticks import EARLY_SECONDS, LONGEST_SECONDS, SHORTEST_SECONDS, until_tick

MOMENTS = [1000 + step * 0.037 for step in range(200)]


@pytest.mark.parametrize("seconds", [0.25, 0.3, 0.5, 0.9, 1.0, 2.5, 10.0, 60.0])
def test_nobody_waits_longer_than_is_asked_nor_less_than_half_as_long(seconds: float) -> None:
    for now in MOMENTS:
        assert seconds / 2 <= until_tick(seconds, now) <= seconds + EARLY_SECONDS


def test_those_who_wait_about_a_second_wake_together() -> None:
    ends = {round((now + until_tick(seconds, now)) % LONGEST_SECONDS, 6) for now in MOMENTS for seconds in (1.0, 2.5)}
    assert len(ends) == 1


@pytest.mark.parametrize("seconds", [0.25, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("late", [0.0, -0.001, 0.02])
def test_what_is_done_each_second_is_done_each_second_however_long_it_takes(seconds: float, late: float) -> None:
    now = 1000.0
    first = tick = now + until_tick(seconds, now)
    for _ in range(100):
        tick += until_tick(seconds, tick + late) + late
    assert tick - first == pytest.approx(100 * seconds, abs=0.1)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 2 * SHORTEST_SECONDS - 0.001, float("inf")])
def test_short_waits_are_as_long_as_is_asked(seconds: float) -> None:
    assert until_tick(seconds, 1000.1) == seconds
