"""What the console says has happened."""

from dataclasses import replace

import pytest

from neverstale.ops.console.happenings import COUNTED, happened
from neverstale.ops.console.looks import ProcessLook, QuickLook
from neverstale.ops.console.samples import Samples
from neverstale.role import telemetry
from tests.unit.ops.console.looks import look, process, well


def told(before: object, after: object) -> list[str]:
    return [one.what for one in happened(before, after)]  # type: ignore[arg-type]


def test_nothing_has_happened_where_nothing_differs() -> None:
    assert told(well(), well(101.0, bound=0.2)) == []


def test_servers_go_and_come_back() -> None:
    assert told(well(), well(101.0, away=("kafka",))) == ["Kafka is away: no connection"]
    assert told(well(away=("kafka",)), well(101.0)) == ["Kafka answers again"]


def test_processes_start_fall_silent_answer_again_and_end() -> None:
    none, runs = look(), look(process("consumer"), at=101.0)
    silent, gone = look(process("consumer", "silent"), at=102.0), look(process("consumer", "gone"), at=103.0)
    assert told(none, runs) == ["the consumer consumer-1 has started"]
    assert told(runs, silent) == ["the consumer consumer-1 does not answer any more"]
    assert told(silent, runs) == ["the consumer consumer-1 answers again"]
    assert told(silent, gone) == ["the consumer consumer-1 has ended"]
    assert told(gone, gone) == []


def test_a_new_term_names_who_watches() -> None:
    before, after = (look(process("watcher", watcher_leads=1, watcher_term=term)) for term in (3, 5))
    assert told(before, after) == ["term 5 begins: watcher-1 watches"]


def test_each_watcher_group_has_terms_of_its_own() -> None:
    def at(default: float, orders: float) -> QuickLook:
        each = (("default", default, "watcher-1"), ("orders", orders, "watcher-2"))
        return look(*(watcher(who, group, term) for group, term, who in each))

    def watcher(who: str, group: str, term: float) -> ProcessLook:
        labels = {"group": group}
        samples = Samples({"neverstale_watcher_leads": [(labels, 1)], "neverstale_watcher_term": [(labels, term)]})
        seen = process("watcher")
        return replace(seen, role=replace(seen.role, instance=who), samples=samples)

    assert told(at(9, 3), at(9, 4)) == ["term 4 of group orders begins: watcher-2 watches"]


def test_a_floor_that_rises_says_what_is_void() -> None:
    before, after = look(floor="0" * 16), look(floor="0" * 15 + "7")
    assert told(before, after) == ["floor: what was read of flights before 0000000000000007 is void"]


def test_what_processes_count_is_told_once_for_all_of_them_with_its_remedy() -> None:
    before = look(process("consumer", redis_lacked_total__replayed=1, records_poison_total=0))
    after = look(process("consumer", redis_lacked_total__replayed=3, records_poison_total=1), at=101.0)
    found = {one.what: one.remedy for one in happened(before, after)}
    assert [what.partition(":")[0] for what in found] == ["replay", "a record could not be applied"]
    assert next(iter(found)).endswith("(2 times)") and "neverstale dlq list" in found.values()


def test_what_a_process_counted_before_it_was_first_seen_is_not_told() -> None:
    old, after = look(at=100.0), look(process("consumer", records_poison_total=4), at=101.0)
    assert told(old, after) == ["the consumer consumer-1 has started"]


@pytest.mark.parametrize("counted", COUNTED, ids=lambda one: one.metric)
def test_whatever_is_told_of_is_a_metric_of_ours(counted: object) -> None:
    known = {f"{metric.name}_total" for metric in telemetry.REGISTRY.collect()}
    assert counted.metric in known  # type: ignore[attr-defined]
