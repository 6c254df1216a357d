from collections.abc import Callable

import pytest

from neverstale.api.reads.breaker import Breaker
from neverstale.role import telemetry
from tests.support.clock import Clock


@pytest.fixture
def breaker(clock: Callable[[], float]) -> Breaker:
    return Breaker("redis", failures=3, open_seconds=0.5, clock=clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        assert breaker.allows()
        breaker.failed()


def test_it_lets_all_through_until_so_many_have_failed_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 2)
    assert breaker.allows()
    breaker.succeeded()
    fail(breaker, 3)
    assert not breaker.allows()
    assert breaker.refuses


def test_after_its_time_it_lets_one_probe_through(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 100 + 0.5
    assert not breaker.refuses
    assert [breaker.allows() for _ in range(3)] == [True, False, False]


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 100 + 0.5
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_a_probe_that_fails_keeps_it_open_for_as_long_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 100 + 0.5
    fail(breaker, 1)
    clock.now = 100 + 0.9
    assert not breaker.allows()
    clock.now = 100 + 1.0
    assert breaker.allows()


def test_a_probe_of_which_nothing_is_heard_does_not_keep_it_open_for_ever(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now = 100 + 0.5
    assert breaker.allows()
    clock.now = 100 + 1.0
    assert breaker.allows()


def test_a_metric_shows_whether_it_is_open(breaker: Breaker) -> None:
    def shown() -> float | None:
        return telemetry.REGISTRY.get_sample_value("neverstale_breaker_open", {"server": "redis"})

    assert shown() == 0
    fail(breaker, 3)
    assert shown() == 1
    breaker.succeeded()
    assert shown() == 0
