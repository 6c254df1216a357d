"""How many answers are read together."""

from neverstale.api.reads.weights import HALF_LIFE_SECONDS, UNKNOWN_BYTES, Weight
from tests.support.clock import Clock


def test_large_answers_are_read_few_at_a_time() -> None:
    weight = Weight(Clock())
    weight.saw(10 << 20, 10)
    assert weight.room(8 << 20) == 8
    assert weight.room(1) == 1


def test_small_answers_are_read_many_at_a_time() -> None:
    weight = Weight(Clock())
    weight.saw(1000, 10)
    assert weight.room(1 << 20) > 10_000


def test_what_is_unknown_is_taken_for_neither() -> None:
    assert Weight(Clock()).of_one() == UNKNOWN_BYTES


def test_large_ones_are_forgotten_slowly_and_absences_say_nothing() -> None:
    clock = Clock()
    weight = Weight(clock)
    weight.saw(1 << 20, 1)
    for _ in range(1000):
        weight.saw(100, 1)
        weight.saw(0, 0)
    assert weight.of_one() > 1 << 19
    clock.now += 30 * HALF_LIFE_SECONDS
    weight.saw(100, 1)
    assert weight.of_one() == 100
