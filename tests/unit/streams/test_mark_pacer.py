"""When a mark is due, and what it says."""

from neverstale.kafka.events import Mark
from neverstale.streams.mark_pacer import MarkPacer


def marks() -> MarkPacer:
    return MarkPacer(partitions=4, term=1, interval_seconds=0.05)


def test_a_mark_stays_one_below_the_token_and_carries_the_newest_wall_time() -> None:
    some = marks()
    some.saw(1000)
    some.saw(2000)
    assert some.due(17, 0.0, heartbeat=False) == Mark(16, 2000, 4, 1)


def test_without_any_wall_time_there_is_no_mark() -> None:
    some = marks()
    some.saw(None)
    assert some.due(17, 0.0, heartbeat=True) is None


def test_marks_are_apart_under_load() -> None:
    some = marks()
    some.saw(1000)
    assert some.due(17, 0.0, heartbeat=False)
    assert some.due(18, 0.04, heartbeat=False) is None
    assert some.due(19, 0.06, heartbeat=False)


def test_a_heartbeat_brings_its_mark_at_once() -> None:
    some = marks()
    some.saw(1000)
    assert some.due(17, 0.0, heartbeat=False)
    assert some.due(18, 0.01, heartbeat=True)


def test_a_mark_that_says_nothing_new_is_left_out() -> None:
    some = marks()
    some.saw(1000)
    assert some.due(17, 0.0, heartbeat=True)
    assert some.due(17, 9.0, heartbeat=True) is None
    assert some.version == 16
