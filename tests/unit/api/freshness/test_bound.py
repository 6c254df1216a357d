"""The arithmetic of the bound, on clocks that a test can set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.freshness.bound import Bounds
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.versions import Version


class Clocks:
    """Our monotonic clock, and the primary's clock as we estimate it, exact to a millisecond."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.primary = PrimaryClock(lambda: self.seconds)
        self.marks = Bounds(self.primary, lambda: self.seconds)

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


# --- proofs


def test_a_proof_is_a_mark_of_the_moment_at_which_it_was_asked_for(clocks: Clocks) -> None:
    clocks.mark(10, 49_000)
    asked, earliest = clocks.seconds, clocks.primary.earliest_ms()
    assert earliest is not None
    clocks.seconds += 0.2
    clocks.marks.prove(20, earliest, asked)
    assert clocks.bound(20) == pytest.approx(0.2, abs=0.005)
    assert clocks.bound(19) == pytest.approx(1.2, abs=0.005)
    assert clocks.marks.newest == 20


def test_a_late_mark_of_a_later_version_does_not_hide_what_was_proved(clocks: Clocks) -> None:
    clocks.marks.prove(20, 50_000, clocks.seconds)
    clocks.mark(30, 40_000)
    assert clocks.bound(30) == pytest.approx(0, abs=0.005)
    assert clocks.marks.newest == 30


def test_a_proof_takes_the_place_of_marks_that_say_less(clocks: Clocks) -> None:
    clocks.mark(30, 40_000)
    clocks.marks.prove(20, 50_000, clocks.seconds)
    assert clocks.bound(30) == clocks.bound(20) == pytest.approx(0, abs=0.005)


def test_a_failover_to_a_primary_whose_clock_is_behind_lets_new_marks_count(clocks: Clocks) -> None:
    clocks.mark(10, 50_000)
    clocks.seconds += 5
    clocks.set_primary(20_000)
    clocks.mark(20, 19_900)
    assert clocks.bound(20) == pytest.approx(0.1, abs=0.005)


SECONDS = st.floats(0, 3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(1, 3)),
        st.tuples(st.just("wait"), SECONDS),
        st.tuples(st.just("clock"), st.floats(-20, 20)),
        st.tuples(st.just("ask"), SECONDS),
        st.tuples(st.just("mark"), st.integers(0, 8)),
    ),
    max_size=40,
)


class Truth:
    """What was acknowledged when, a primary whose clock may be set, and what a process is told about it."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self.offset_ms = 50_000.0 - 1000 * self.clocks.seconds
        self.version = 0
        self.acknowledged: list[tuple[float, Version]] = []
        self.heartbeats: list[tuple[Version, float]] = []
        self.answers: list[tuple[float, float, float, Version]] = []
        self.sample()

    def sample(self) -> None:
        self.clocks.set_primary(1000 * self.clocks.seconds + self.offset_ms)

    def step(self, what: str, number: float) -> None:
        clocks = self.clocks
        if what == "change":
            for _ in range(int(number)):
                self.version += 1
                self.acknowledged.append((clocks.seconds, self.version))
            self.heartbeats.append((self.version, 1000 * clocks.seconds + self.offset_ms))
        elif what == "wait":
            clocks.seconds += number
            self.deliver()
        elif what == "clock":  # an election; marks of the old primary that are told later are not covered
            self.offset_ms += 1000 * number
            self.heartbeats.clear()
            self.sample()
        elif what == "ask":
            earliest = clocks.primary.earliest_ms()
            assert earliest is not None
            self.answers.append((clocks.seconds + number, clocks.seconds, earliest, self.version))
        elif self.heartbeats:  # consumers tell one of the last, late or again
            version, wall_ms = self.heartbeats[max(len(self.heartbeats) - 1 - int(number), 0)]
            clocks.mark(version, int(wall_ms))

    def deliver(self) -> None:
        """Answers whose time has come; a version that was reached since the question will do, too."""
        for answer in [each for each in self.answers if each[0] <= self.clocks.seconds]:
            self.answers.remove(answer)
            self.clocks.marks.prove(answer[3], answer[2], answer[1])

    def missing(self, complete: Version) -> float:
        """Seconds since the acknowledgement of the first change that an answer lacks; 0: it lacks none."""
        return max((self.clocks.seconds - at for at, version in self.acknowledged if version > complete), default=0)


@given(STEPS)
def test_no_answer_ever_states_a_bound_that_a_change_it_lacks_contradicts(steps: list[tuple[str, float]]) -> None:
    truth = Truth()
    for what, number in steps:
        truth.step(what, number)
        for complete in range(truth.version + 2):
            bound = truth.clocks.marks.bound(complete)
            assert bound is None or bound >= truth.missing(complete) - 1e-6
