"""What the console says is wrong, and what to do about it."""

from dataclasses import replace

import pytest

from neverstale.ops.auditor.counts import About, AuditCounts
from neverstale.ops.auditor.record import record_of
from neverstale.ops.console.looks import LongLook
from neverstale.ops.console.wrong import findings
from tests.unit.ops.console.looks import SETTINGS, long_look, look, process, well

STUCK = [long_look(95.0), long_look(100.0)]
MOVES = [long_look(95.0), long_look(100.0, committed=9)]


def test_nothing_is_wrong_with_a_pipeline_that_moves() -> None:
    assert findings(well(), MOVES, {}, SETTINGS) == []


def test_a_frozen_consumer_is_named_with_what_waits_for_it_and_how_to_end_it() -> None:
    seen = look(process("watcher"), process("api", bound_seconds=9), process("consumer", "silent"))
    [silent] = findings(seen, STUCK, {"consumer-1": 12.0}, SETTINGS)  # and not a second time that they do not move
    assert silent.level == "problem" and "has answered nothing for 12 s: it is frozen" in silent.message
    assert "the changes of partitions 0, 1 wait for it" in silent.message
    assert silent.remedy == "kill -9 7  # on box\nneverstale run consumer"


def test_a_process_that_is_busy_for_a_moment_is_not_told_of() -> None:
    seen = look(process("watcher"), process("consumer"), process("api", "silent"))
    assert not [one for one in findings(seen, MOVES, {"api-1": 1.0}, SETTINGS) if "frozen" in one.message]


@pytest.mark.parametrize(
    ("server", "remedy", "means"),
    [
        ("mongodb", "mongosh ", "is still served, and grows older"),
        ("kafka", "kafka-topics --bootstrap-server ", "no change reaches the cache"),
        ("redis", "redis-cli -u ", "reads go to MongoDB"),
    ],
)
def test_a_server_that_is_away_is_said_with_what_that_means(server: str, remedy: str, means: str) -> None:
    first = findings(well(away=(server,)), MOVES, {}, SETTINGS)[0]
    assert first.level == "problem" and means in first.message and first.remedy.startswith(remedy)


def test_before_anything_runs_each_role_is_missed_and_no_more_is_made_of_it() -> None:
    found = findings(look(age_ms=()), [], {}, SETTINGS)
    assert [one.remedy for one in found] == [f"neverstale run {role}" for role in ("watcher", "consumer", "api")]


def test_what_several_processes_say_alike_is_said_once_and_what_holds_always_is_not() -> None:
    says = {"topic": "it has 3 partitions", "apply_ops": "a note"}
    seen = look(*(replace(process(role), wrong=says) for role in ("watcher", "consumer", "api")))
    [finding] = findings(seen, MOVES, {}, SETTINGS)
    assert finding.level == "warning"
    assert finding.message.startswith("topic: it has 3 partitions (says the watcher watcher-1, the consumer")


def test_partitions_of_a_consumer_that_answers_and_does_nothing_are_said() -> None:
    [stuck] = findings(well(), STUCK, {}, SETTINGS)
    assert stuck.message.startswith("partitions 0, 1 do not move, and 8 records wait, last by consumer-1")


def test_what_an_auditor_was_told_wrong_comes_first_with_what_to_do() -> None:
    counts: dict[About, AuditCounts] = {("flights", "pages"): AuditCounts(checked=9, broken=2, permanent=1)}
    seen = well(away=("kafka",))
    audited = replace(seen, status=replace(seen.status, audit=record_of(counts, 0.0, 1.0, [])))
    first = findings(audited, MOVES, {}, SETTINGS)[0]
    assert (first.level, first.name) == ("problem", "answers-were-wrong")
    assert first.message.startswith("2 answers about pages of flights were wrong")
    assert first.remedy.startswith("neverstale invalidate --all  #")


def test_dead_letters_that_nobody_has_settled_are_a_warning() -> None:
    [finding] = findings(well(), [long_look(95.0), long_look(100.0, 9, letters=2)], {}, SETTINGS)
    assert (finding.level, finding.remedy) == ("warning", "neverstale dlq list")


def test_each_watcher_group_is_judged_by_what_was_seen_of_it() -> None:
    def both(seen: LongLook, orders: LongLook) -> LongLook:
        return replace(seen, groups={**seen.groups, "orders": orders.groups["default"]})

    first, last = both(long_look(95.0), long_look(95.0)), both(long_look(100.0, committed=9), long_look(letters=2))
    seen = well()
    orders = [replace(one, group="orders") for one in seen.status.partitions]
    seen = replace(seen, status=replace(seen.status, partitions=[*seen.status.partitions, *orders]))
    stuck, letters = findings(seen, [first, last], {}, SETTINGS)
    assert stuck.message.startswith("partitions 0, 1 of group orders do not move")
    assert stuck.remedy.endswith("neverstale run consumer --group orders")
    assert letters.message.startswith("2 records of group orders") and letters.remedy.endswith("list --group orders")
