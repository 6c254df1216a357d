"""Progress: a partition that lags and does not move, although records are waited for, is told from a busy one."""

import pytest

from neverstale.consumers.group.stuck import FETCHES, STUCK_SECONDS, Progress, Stuck
from tests.support.clock import Clock

AGES = 2 * STUCK_SECONDS


@pytest.fixture
def progress(clock: Clock) -> Progress:
    return Progress(clock)


def fetch(progress: Progress, times: int = FETCHES) -> None:
    for _ in range(times):
        progress.fetching()
        progress.fetched()


def test_a_partition_that_lags_while_fetches_come_back_empty_is_stuck(progress: Progress, clock: Clock) -> None:
    progress.look({0: 5, 1: 7}, {0: 9, 1: 7})
    clock.now += AGES
    fetch(progress)
    with pytest.raises(Stuck, match="0 lags"):
        progress.look({0: 5, 1: 9}, {0: 9, 1: 9})


def test_a_fetch_that_never_comes_back_is_stuck(progress: Progress, clock: Clock) -> None:
    progress.fetching()
    progress.look({0: 5}, {0: 9})
    clock.now += AGES
    with pytest.raises(Stuck):
        progress.look({0: 5}, {0: 9})


def test_one_that_moves_is_not(progress: Progress, clock: Clock) -> None:
    for position in range(5):
        progress.look({0: position}, {0: 100})
        clock.now += AGES
        fetch(progress)
    progress.look({0: 6}, {0: 100})


def test_one_that_has_delivered_everything_is_not(progress: Progress, clock: Clock) -> None:
    progress.look({0: 9}, {0: 9})
    clock.now += AGES
    fetch(progress)
    progress.look({0: 9}, {0: 9})


def test_one_whose_records_wait_to_be_applied_is_not(progress: Progress, clock: Clock) -> None:
    fetch(progress, 1)
    progress.look({0: 5}, {0: 9})
    clock.now += AGES
    progress.look({0: 5}, {0: 9})


def test_a_time_without_brokers_does_not_count(progress: Progress, clock: Clock) -> None:
    progress.look({0: 5}, {0: 9})
    clock.now += AGES
    fetch(progress)
    progress.forget()
    progress.look({0: 5}, {0: 9})
