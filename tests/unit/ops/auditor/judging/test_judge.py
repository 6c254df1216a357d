"""The judgement: over every history of a small document nobody innocent is found guilty, and the guilty are found."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.derived.figures import FigureSource
from neverstale.api.reads.source import Source
from neverstale.errors import Outage
from neverstale.mongodb.loader import Snapshot
from neverstale.ops.auditor.counts import Kind
from neverstale.ops.auditor.judging.drifting import TIMES, Drifting
from neverstale.ops.auditor.judging.judge import Judge
from neverstale.ops.auditor.judging.judged import Judged
from neverstale.ops.auditor.judging.questions import AuditQuestion
from neverstale.ops.auditor.judging.timeline import Timeline
from neverstale.ops.auditor.judging.told import Told
from neverstale.ops.auditor.judging.truth import Truth

SOURCE: dict[str, Any] = {
    "collection": "things",
    "keys_a_read": 500,
    "canonical": str,
    "is_absence": lambda body: body is None,
}
DOCUMENTS = cast("Source", SimpleNamespace(name="things", **SOURCE))
COUNTER = Mock(FigureSource, **SOURCE)
COUNTER.name = "things"


def question(kind: Kind = "documents") -> AuditQuestion:
    return AuditQuestion(("things", kind), DOCUMENTS if kind == "documents" else COUNTER, "a", "/v1/things/a")


@dataclass
class Past:
    """A document's states: version -> body from then on. The state at version n could be read from moment n on."""

    states: dict[int, bytes | None]
    now: int
    forgotten: int = 0
    """Older states are gone."""
    reads: list[int] = field(default_factory=list)

    def at_version(self, version: int) -> bytes | None:
        return self.states[max(one for one in self.states if one <= version)]

    async def at(self, source: Source, keys: Sequence[Any], version: int) -> Snapshot:
        self.reads.append(version)
        if version < self.forgotten:
            raise Outage("mongodb", "SnapshotTooOld")
        body = self.at_version(version)
        return Snapshot(version, {} if body is None else {"a": body})

    async def judge(self, told: Told, seen: Sequence[int]) -> Judged:
        timeline = Timeline(apart_seconds=0)
        for moment in seen:
            timeline.saw(moment, moment)
        truth = SimpleNamespace(at=self.at, now=lambda source, keys, at_least: self.at(source, keys, self.now))
        (found,) = await Judge(cast("Truth", truth), timeline, {}).judge([told])
        return found


def told(
    body: bytes | None, version: int | None, asked: float, bound: float | None, kind: Kind = "documents"
) -> Told:
    return Told(question(kind), "http://a", asked, 200, body, version, bound, "l2")


BODIES = st.sampled_from([b'{"a":1}', b'{"a":2}', b'{"a":3}', None])
HISTORIES = st.dictionaries(st.integers(1, 30), BODIES, max_size=8).map(lambda states: {0: None, **states})


@given(HISTORIES, st.integers(0, 31), st.integers(1, 31), st.integers(0, 31), st.sets(st.integers(1, 31)))
async def test_an_answer_is_wrong_exactly_if_it_misses_what_could_be_read_before_its_bound(
    states: dict[int, bytes | None], version: int, asked: int, bound: int, seen: set[int]
) -> None:
    """`version`: what the answer shows truly. Later changes that restore what it shows are nobody's harm."""
    past = Past(states, now=31)
    version = min(version, asked)
    answer = told(past.at_version(version), version, asked, bound)
    found = await past.judge(answer, sorted(seen))
    assert found.verdict != "untrue"
    if found.wrong:
        # What could be read more than the bound before the question, and is not what the answer shows.
        assert found.missed is not None and found.missed > version
        assert asked - found.missed > bound
        assert past.at_version(found.missed) != answer.body
    elif found.verdict == "true" and past.at_version(31) != answer.body:
        latest = max((moment for moment in seen if moment < asked), default=None)
        assert latest is not None
        assert latest <= version or past.at_version(latest) == answer.body


@given(HISTORIES, st.integers(2, 30), st.sets(st.integers(1, 30), min_size=1))
async def test_an_answer_that_misses_a_change_for_good_is_as_old_as_the_first_sample_that_shows_it(
    states: dict[int, bytes | None], changed: int, seen: set[int]
) -> None:
    past = Past({**{at: body for at, body in states.items() if at < changed}, changed: b'{"a":"new"}'}, now=31)
    answer = told(past.at_version(changed - 1), changed - 1, 31, 0.0)
    found = await past.judge(answer, sorted(seen))
    shown = [moment for moment in seen if moment >= changed]
    if shown:
        assert (found.verdict, found.age, found.missed) == ("late", 31 - min(shown), min(shown))
        assert found.broke_its_bound
    else:
        assert found.verdict == "true" or found.verdict == "late"


async def test_what_mongodb_did_not_hold_at_its_version_is_untrue() -> None:
    past = Past({0: b"{}", 5: b'{"a":1}', 9: b'{"a":2}'}, now=20)
    found = await past.judge(told(b'{"a":1}', 12, 10.0, 0.1), [3, 8])
    assert (found.verdict, found.wrong) == ("untrue", True)
    found = await past.judge(told(b'{"a":1}', 8, 8.5, 0.1), [3, 8])
    assert (found.verdict, found.wrong) == ("true", False)


async def test_an_absence_straight_from_mongodb_may_state_an_earlier_version_than_it_was_read_at() -> None:
    """So it is where the collection does not exist at the moment: there is no version of a read of nothing."""
    past = Past({0: b"{}", 9: None, 12: b"{}"}, now=20)
    answer = replace(told(None, 8, 8.5, 0.1), source="mongodb")
    assert (await past.judge(answer, [3, 8])).verdict == "undecided"
    assert (await past.judge(replace(answer, source="l2"), [3, 8])).verdict == "untrue"


async def test_without_a_past_nothing_is_decided() -> None:
    past = Past({0: b"{}", 5: b'{"a":1}'}, now=20, forgotten=19)
    assert (await past.judge(told(b"{}", 3, 10.0, 0.1), [3, 8])).verdict == "undecided"
    assert (await past.judge(told(b"{}", 3, 10.0, 0.1), [])).verdict == "undecided"
    assert (await past.judge(told(b"{}", None, 10.0, 0.1), [3, 8])).verdict == "undecided"
    assert (await past.judge(told(b'{"a":1}', 3, 10.0, 0.1), [])).verdict == "true"


async def test_an_answer_without_a_bound_breaks_none() -> None:
    found = await Past({0: b"{}", 5: b'{"a":1}'}, now=20).judge(told(b"{}", 3, 10.0, None), [3, 8])
    assert (found.verdict, found.age, found.wrong) == ("late", 2.0, False)


@pytest.mark.parametrize("shown", [b'{"count":3,"sums":{}}', b'{"count":3,"sums":{}, "averages":{}}'])
async def test_a_figure_that_differs_is_wrong_only_if_it_differs_by_the_same_again_and_again(shown: bytes) -> None:
    past = Past({0: b'{"count":4,"sums":{}}'}, now=20)
    clock = [0.0]
    drifting = Drifting(lambda: clock[0])
    for number in range(TIMES):
        found = await past.judge(told(shown, 15, 10.0 + number, 0.5, "counters"), [3, *range(8, 18)])
        assert (found.verdict, found.wrong) == ("differs", False)
        settled = drifting.take(found)
        assert (settled is None) == (number < TIMES - 1)
    assert settled is not None and settled.broke_its_bound and settled.age > 6
    assert len(drifting) == 0


async def test_a_figure_in_doubt_that_is_right_again_was_right() -> None:
    past, drifting = Past({0: b'{"count":4}'}, now=20), Drifting(lambda: 0.0)
    assert drifting.take(await past.judge(told(b'{"count":3}', 15, 10.0, 0.5, "counters"), [3, 8])) is None
    found = await past.judge(told(b'{"count":4}', 15, 11.0, 0.5, "counters"), [3, 8])
    settled = drifting.take(found)
    assert settled is not None and settled.verdict == "true" and len(drifting) == 0
