"""The pace of a walk."""

import pytest

from neverstale.streams.walk import DOCUMENTS_A_STEP, Pace, step_of
from tests.support.clock import Clock


def test_documents_come_evenly(clock: Clock) -> None:
    pace = Pace(clock)
    for _ in range(10):
        clock.now += pace.pause(5, rate=20)
    assert clock.now == pytest.approx(100 + 50 / 20)


def test_what_a_step_took_is_taken_off_its_pause(clock: Clock) -> None:
    pace = Pace(clock)
    clock.now += 0.2
    assert pace.pause(5, rate=20) == pytest.approx(0.05)


def test_lost_time_is_not_made_up_for(clock: Clock) -> None:
    pace = Pace(clock)
    clock.now += 60
    assert pace.pause(5, rate=20) == 0
    assert pace.pause(5, rate=20) == pytest.approx(0.25)


def test_without_a_rate_there_is_no_pause(clock: Clock) -> None:
    assert Pace(clock).pause(2000, rate=None) == 0


@pytest.mark.parametrize(("rate", "step"), [(None, DOCUMENTS_A_STEP), (1, 1), (40, 10), (1e9, DOCUMENTS_A_STEP)])
def test_a_step_is_short_at_any_rate(rate: float | None, step: int) -> None:
    assert step_of(rate) == step
