"""The arithmetic of the bound, on clocks that a test can set."""

import pytest

from api.marks import Marks
from neverstale.clock import PrimaryClock
from neverstale.versions import Version


class Clocks:
    """Our monotonic clock, and the primary's clock as we estimate it, exact to a millisecond."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.primary = PrimaryClock(lambda: self.seconds)
        self.marks = Marks(self.primary, lambda: self.seconds)

    def set_primary(self, milliseconds: float) -> None:
        self.primary.observe(self.seconds, milliseconds, self.seconds)

    def mark(self, version: Version, wall_ms: int) -> None:
        self.marks.note(version, wall_ms)

    def bound(self, version: Version) -> float:
        bound = self.marks.bound(version)
        assert bound is not None
        return bound


@pytest.fixture
def clocks() -> Clocks:
    clocks = Clocks()
    clocks.set_primary(50_000)
    return clocks


def test_the_bound_is_the_primarys_time_since_the_newest_mark_that_is_contained(clocks: Clocks) -> None:
    clocks.mark(10, 40_000)
    clocks.mark(20, 45_000)
    assert clocks.bound(15) == pytest.approx(10, abs=0.002)
    assert clocks.bound(20) == pytest.approx(5, abs=0.002)
    assert clocks.bound(10**18) == pytest.approx(5, abs=0.002)


def test_an_answer_older_than_every_mark_has_an_unknown_age(clocks: Clocks) -> None:
    clocks.mark(10, 40_000)
    assert clocks.marks.bound(9) is None


def test_without_a_clock_every_age_is_unknown() -> None:
    clocks = Clocks()
    clocks.mark(10, 40_000)
    assert clocks.marks.bound(10) is None


def test_the_bound_grows_with_time(clocks: Clocks) -> None:
    clocks.mark(10, 49_000)
    before = clocks.bound(10)
    clocks.seconds += 30
    assert clocks.bound(10) >= before + 30


def test_the_error_of_the_clock_widens_the_bound() -> None:
    clocks = Clocks()
    clocks.primary.observe(999.0, 50_000, 1000.0)  # a round trip of a second
    clocks.mark(10, 50_000)
    assert clocks.bound(10) >= 1.0


def test_a_mark_from_a_clock_that_is_ahead_gives_no_negative_bound(clocks: Clocks) -> None:
    clocks.mark(10, 60_000)
    assert clocks.bound(10) == 0


def test_a_failover_to_a_primary_whose_clock_is_behind_does_not_narrow_a_bound(clocks: Clocks) -> None:
    clocks.mark(10, 49_000)
    clocks.seconds += 5
    clocks.set_primary(20_000)  # the new primary's clock is 35 s behind
    assert clocks.bound(10) >= 6


def test_a_failover_to_a_primary_whose_clock_is_ahead_widens_it(clocks: Clocks) -> None:
    clocks.mark(10, 49_000)
    clocks.set_primary(80_000)
    assert clocks.bound(10) >= 31


def test_a_later_wall_time_for_the_same_version_counts(clocks: Clocks) -> None:
    clocks.mark(10, 40_000)
    clocks.mark(10, 49_000)
    clocks.mark(10, 45_000)
    assert clocks.bound(10) == pytest.approx(1, abs=0.002)


def test_marks_may_come_in_any_order(clocks: Clocks) -> None:
    for version in (30, 10, 20):
        clocks.mark(version, 40_000 + version)
    assert clocks.marks.newest == 30
    assert clocks.bound(25) == pytest.approx(9.98, abs=0.002)


def test_old_answers_keep_an_age_although_few_marks_are_kept() -> None:
    clocks = Clocks()
    day, step = 86_400_000, 500
    clocks.set_primary(day)
    for wall_ms in range(0, day, step):
        clocks.mark(wall_ms, wall_ms)
    for true_age in (1, 10, 60, 3600, 20_000, 80_000):
        assert true_age <= clocks.bound(day - true_age * 1000) <= true_age * 1.07 + 2 * step / 1000
    assert clocks.marks.bound(0) is not None
