"""What is carried on from one look to the next while somebody does not answer."""

from neverstale.ops.console.carried import carried, remembered
from tests.unit.ops.console.looks import look, process, well


def test_what_redis_said_last_grows_older_while_it_is_away() -> None:
    first = carried(None, well(100.0))
    second = carried(first, well(102.5, away=("redis",)))
    third = carried(second, well(104.0, away=("redis",)))
    assert [one.age_ms for one in third.status.partitions] == [380 + 4000, 100 + 4000]
    assert [one.role for one in third.status.roles] == ["watcher", "consumer", "api"]
    assert third.heard == {"redis": 100.0, "mongodb": 104.0, "kafka": 104.0}
    assert carried(third, well(105.0)).status.partitions == well(105.0).status.partitions


def test_a_process_that_is_silent_is_shown_with_what_it_said_last() -> None:
    first = carried(None, look(process("consumer", records_applied_total=5)))
    second = carried(first, look(process("consumer", "silent")))
    assert second.processes[0].samples.total("neverstale_records_applied_total") == 5


def test_a_process_is_forgotten_when_it_has_been_gone_for_long() -> None:
    since: dict[str, float] = {}
    gone = [process("consumer", "gone")]
    assert remembered(gone, since, 10.0, 30.0) == gone
    assert remembered([process("consumer")], since, 20.0, 30.0) and not since
    assert remembered(gone, since, 30.0, 30.0) == gone
    assert remembered(gone, since, 61.0, 30.0) == []
