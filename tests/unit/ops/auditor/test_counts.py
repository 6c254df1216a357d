"""AuditCounts: altogether, of the last hour, and as JSON."""

from typing import Any

from neverstale.ops.auditor.counts import WINDOWS, About, AuditCounts, Ledger, total
from neverstale.ops.auditor.record import record_of, restored

FLIGHTS: About = ("flights", "documents")
PAGES: About = ("flights", "pages")


def counts(checked: int, *ages: float) -> AuditCounts:
    found = AuditCounts(checked=checked)
    for age in ages:
        found.note_age(age)
    return found


def test_an_answer_is_stale_at_every_window_that_it_exceeds() -> None:
    assert counts(9, 0.05, 0.5, 1.5, 5.0, 50.0).stale == [4, 3, 2, 1]
    assert counts(9, 0.5, 50.0, 1.5).worst_age == 50.0
    assert len(WINDOWS) == 4


def test_the_last_hour_forgets_what_is_older_and_the_whole_does_not() -> None:
    ledger = Ledger()
    for minute in range(90):
        ledger.add(FLIGHTS, counts(1), minute * 60.0)
    assert ledger.all[FLIGHTS].checked == 90
    assert 59 <= ledger.last_hour(89 * 60.0)[FLIGHTS].checked <= 61


def test_who_comes_next_goes_on_with_the_hour_that_was_told() -> None:
    before, after = Ledger(), Ledger()
    before.add(FLIGHTS, counts(1000, 0.5), 100.0)
    before.add(PAGES, AuditCounts(checked=5, broken=1, untrue=2, permanent=1, undecided=3, unanswered=4), 160.0)
    record = record_of(before.last_hour(200.0), before.since(200.0), 12.0, [])
    restored(record, after)
    assert after.last_hour(300.0) == before.last_hour(300.0)
    assert after.last_hour(100.0 + 3601) == {}
    assert after.all == {}


def test_a_record_that_is_none_is_forgotten() -> None:
    records: list[dict[str, Any]] = [{}, {"resources": {"a": {"documents": {}}}, "since_ms": 1}, {"resources": {}}]
    for record in records:
        ledger = Ledger()
        restored(record, ledger)
        assert ledger.last_hour(0.0) == {}


def test_nines_count_wrong_answers_of_checked_ones_alone() -> None:
    told = total([AuditCounts(checked=2000, undecided=500), AuditCounts(checked=1000, unanswered=7)]).as_json()
    assert (told["checked"], told["nines"], told["wrong"]) == (3000, 3.0, 0)
    assert told["stale"]["0.1"] == {"count": 0, "nines": 3.0}
