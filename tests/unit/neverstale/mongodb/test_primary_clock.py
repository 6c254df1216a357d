"""The estimate of the primary's clock contains the truth, whatever the round trips do."""

import random

import pytest

from neverstale.mongodb.primary_clock import AHEAD_SECONDS, DRIFT, PrimaryClock


class World:
    """Two clocks: ours counts seconds, the primary's milliseconds, with a rate and an offset of its own."""

    def __init__(self, drift: float = 0.0) -> None:
        self.seconds = 500.0
        self.drift = drift
        self.offset = 1_000_000.0
        self.clock = PrimaryClock(lambda: self.seconds)

    @property
    def primary_ms(self) -> float:
        return self.offset + self.seconds * 1000 * (1 + self.drift)

    def round_trip(self, there: float, back: float) -> None:
        """Ask for the time; the primary reads its clock after `there` seconds, and cuts it to a millisecond."""
        started = self.seconds
        self.seconds += there
        read = float(int(self.primary_ms))
        self.seconds += back
        self.clock.observe(started, read, self.seconds)

    def assert_contained(self) -> None:
        estimate = self.clock.now_ms()
        assert estimate is not None
        middle, error = estimate
        assert abs(middle - self.primary_ms) <= error
        latest = self.clock.latest_ms()
        assert latest is not None
        assert latest >= self.primary_ms


def test_it_is_unknown_before_the_first_sample() -> None:
    clock = PrimaryClock(lambda: 0.0)
    assert clock.now_ms() is None
    assert clock.latest_ms() is None


@pytest.mark.parametrize(("there", "back"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.2), (0.05, 0.15)])
def test_the_truth_lies_within_the_error_however_lopsided_the_round_trip(there: float, back: float) -> None:
    world = World()
    world.round_trip(there, back)
    world.assert_contained()


@pytest.mark.parametrize("seed", range(20))
def test_the_truth_lies_within_the_error_after_many_samples_of_drifting_clocks(seed: int) -> None:
    dice = random.Random(seed)
    world = World(drift=dice.uniform(-DRIFT, DRIFT) * 0.9)
    for _ in range(200):
        world.round_trip(dice.expovariate(50), dice.expovariate(50))
        world.seconds += dice.uniform(0, 2)
        world.assert_contained()


def test_a_sharper_sample_replaces_a_blunt_one_and_not_the_other_way_round() -> None:
    world = World()
    world.round_trip(0.5, 0.5)
    blunt = world.clock.now_ms()
    world.round_trip(0.001, 0.001)
    sharp = world.clock.now_ms()
    world.round_trip(0.5, 0.5)
    kept = world.clock.now_ms()
    assert blunt is not None
    assert sharp is not None
    assert kept is not None
    assert blunt[1] > 400 > 10 > sharp[1]
    assert kept[1] < 10


def test_without_samples_the_error_grows_with_time() -> None:
    world = World()
    world.round_trip(0.001, 0.001)
    before = world.clock.now_ms()
    world.seconds += 3600
    after = world.clock.now_ms()
    assert before is not None
    assert after is not None
    assert after[1] - before[1] == pytest.approx(3600 * DRIFT * 1000)


@pytest.mark.parametrize("jump_ms", [-60_000, 60_000])
def test_another_primary_with_another_clock_is_believed_at_once(jump_ms: float) -> None:
    world = World()
    world.round_trip(0.001, 0.001)
    world.offset += jump_ms
    world.round_trip(0.05, 0.05)  # blunter than what is held, but it contradicts it
    world.assert_contained()


def test_no_version_is_later_than_the_primarys_clock_and_its_newest_change() -> None:
    seconds = 0.0
    clock = PrimaryClock(lambda: seconds, wall=lambda: 1_000.0)
    assert clock.latest_version() >> 32 == 1_000 + AHEAD_SECONDS, "before the first sample by our own clock"
    clock.observe(0.0, 5_000_000, 0.0, cluster_seconds=4_990)
    assert clock.latest_version() >> 32 == 5_000 + AHEAD_SECONDS
    clock.observe(0.0, 5_000_000, 0.0, cluster_seconds=9_000)
    assert clock.latest_version() >> 32 == 9_000 + AHEAD_SECONDS, "its clock was put back"
    seconds = 10.0
    assert clock.latest_version() >> 32 == 9_010 + AHEAD_SECONDS
