"""The first sentence of the console."""

from dataclasses import replace

import pytest

from neverstale.ops.auditor.counts import About, AuditCounts
from neverstale.ops.auditor.record import record_of
from neverstale.ops.console.looks import QuickLook
from neverstale.ops.console.sentence import seconds, sentence
from tests.unit.ops.console.looks import look, process, well

NAN = float("nan")


@pytest.mark.parametrize(
    ("seen", "state", "text"),
    [
        (well(), "ok", "Every answer is at most 0.41 s old; weakest: partition 0, applied 0.38 s ago."),
        (
            well(age_ms=(900, 100)),
            "ok",
            "Every answer is at most 0.90 s old; weakest: partition 0, applied 0.90 s ago.",
        ),
        (
            well(bound=42.0, age_ms=(100, 41_000)),
            "problem",
            "Answers may be 42 s old, and that grows; weakest: partition 1, applied 41 s ago.",
        ),
        (
            well(bound=42.0, age_ms=(42_000,), away=("kafka",)),
            "problem",
            "Answers may be 42 s old, and that grows; Kafka does not answer.",
        ),
        (well(away=("redis",)), "problem", "Redis does not answer: reads go to MongoDB, or are refused."),
        (
            well(bound=NAN, age_ms=(5, None)),
            "problem",
            "Nobody can say how old answers are: no mark was applied to this Redis on partition 1.",
        ),
        (
            well(bound=NAN, age_ms=()),
            "problem",
            "Nobody can say how old answers are: nothing was applied to this Redis yet.",
        ),
        (
            look(process("watcher"), process("api", "silent", bound_seconds=0.1)),
            "problem",
            "Nobody is served: no process of the API answers.",
        ),
    ],
)
def test_the_sentence_says_how_old_answers_are_and_what_that_hangs_on(seen: QuickLook, state: str, text: str) -> None:
    told = sentence(seen, 0)
    assert (told.state, told.text) == (state, text)


def test_where_something_else_is_wrong_a_good_bound_is_not_all_well() -> None:
    assert sentence(well(), 1).state == "warning"


def test_a_good_bound_is_not_claimed_while_an_auditor_has_found_wrong_answers() -> None:
    counts: dict[About, AuditCounts] = {("flights", "documents"): AuditCounts(checked=9, untrue=1)}
    seen = well()
    audited = replace(seen, status=replace(seen.status, audit=record_of(counts, 0.0, 1.0, [])))
    told = sentence(audited, 1)
    assert (told.state, told.text.partition(" in the")[0]) == ("problem", "Answers were wrong")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (-0.1, "0.00 s"),
        (0.414, "0.41 s"),
        (12.4, "12 s"),
        (119.6, "120 s"),
        (150, "2 min"),
        (8000, "2 h"),
        (259_200, "3 days"),
    ],
)
def test_a_time_is_as_people_read_it(number: float, text: str) -> None:
    assert seconds(number) == text
