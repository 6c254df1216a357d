"""Documents of one answer: what states no version is judged by all that it may be."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.reads.source import Source
from neverstale.mongodb.loader import Snapshot
from neverstale.ops.auditor.judging.changes import Changes
from neverstale.ops.auditor.judging.judge import Judge
from neverstale.ops.auditor.judging.judged import Judged
from neverstale.ops.auditor.judging.questions import AuditQuestion
from neverstale.ops.auditor.judging.timeline import Timeline
from neverstale.ops.auditor.judging.told import Told
from neverstale.ops.auditor.judging.truth import Truth

SOURCE = cast(
    "Source",
    SimpleNamespace(
        name="things", collection="things", keys_a_read=500, canonical=str, is_absence=lambda body: body is None
    ),
)
NOW = 40
BODIES = st.sampled_from([b'{"a":1}', b'{"a":2}', b'{"a":3}', None])
HISTORIES = st.dictionaries(st.integers(1, 30), BODIES, max_size=8).map(lambda states: {0: None, **states})


def told(key: str, body: bytes | None, asked: float, bound: float | None) -> Told:
    question = AuditQuestion(("things", "documents"), SOURCE, key, f"/v1/things/{key}")
    return Told(question, "http://a", asked, 200, body, None, bound, "l2")


def state(states: dict[int, bytes | None], version: int) -> bytes | None:
    return states[max(one for one in states if one <= version)]


async def judge(
    histories: dict[str, dict[int, bytes | None]], answers: Sequence[Told], seen: set[int], known: Changes
) -> list[Judged]:
    """The state at version n could be read from moment n on."""
    timeline = Timeline(apart_seconds=0)
    for moment in sorted(seen):
        timeline.saw(moment, moment)

    async def at(source: Source, keys: Sequence[Any], version: int) -> Snapshot:
        found = {key: state(histories[key], version) for key in keys}
        return Snapshot(version, {key: body for key, body in found.items() if body is not None})

    truth = SimpleNamespace(at=at, now=lambda source, keys, at_least: at(source, keys, NOW))
    return await Judge(cast("Truth", truth), timeline, {"things": known}).judge(answers)


def changes_of(histories: dict[str, dict[int, bytes | None]], since: int = 0) -> Changes:
    known = Changes()
    known.reached(since)
    for version, key in sorted((at, key) for key, states in histories.items() for at in states if at > since):
        known.saw(version, key)
    known.reached(NOW)
    return known


@given(
    st.dictionaries(st.sampled_from("abc"), HISTORIES, min_size=1),
    st.integers(10, 31),
    st.integers(0, 10),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 31)),
    st.sets(st.integers(1, 31)),
)
async def test_what_keeps_its_bound_is_never_wrong_and_what_breaks_it_by_a_sample_always_is(
    histories: dict[str, dict[int, bytes | None]], asked: int, bound: int, shown: dict[str, int], seen: set[int]
) -> None:
    at = {key: min(shown.get(key, asked), NOW) for key in histories}
    answers = [told(key, state(histories[key], at[key]), asked, bound) for key in histories]
    for found in await judge(histories, answers, seen, changes_of(histories)):
        key = found.told.question.key
        least = max((moment for moment in seen if moment < asked - bound), default=None)
        may_be = {state(histories[key], version) for version in range(asked - bound, NOW + 1)}
        if found.told.body in may_be:
            assert not found.wrong
        must_be = None if least is None else {state(histories[key], version) for version in range(least, NOW + 1)}
        if must_be is not None and found.told.body not in must_be:
            assert found.wrong and found.age > bound


async def test_what_is_not_known_whole_is_undecided() -> None:
    histories: dict[str, dict[int, bytes | None]] = {"a": {0: b"{}", 8: b'{"a":1}', 20: b'{"a":2}'}}
    answer = told("a", b"{}", 15.0, 1.0)
    assert [one.verdict for one in await judge(histories, [answer], {9, 12}, changes_of(histories))] == ["late"]
    for known in (changes_of(histories, since=14), Changes()):
        assert [one.verdict for one in await judge(histories, [answer], {9, 12}, known)] == ["undecided"]
    cut = Changes(most=1)
    cut.reached(0)
    cut.saw(8, "a")
    cut.saw(20, "a")
    cut.reached(NOW)
    assert [one.verdict for one in await judge(histories, [answer], {3}, cut)] == ["undecided"]
    without = told("a", b"{}", 15.0, None)
    assert [one.verdict for one in await judge(histories, [without], {9}, changes_of(histories))] == ["undecided"]


async def test_nobody_vouches_for_a_collection_that_was_dropped() -> None:
    histories: dict[str, dict[int, bytes | None]] = {"a": {0: b"{}", 8: b'{"a":1}', 20: b'{"a":2}'}}
    known = changes_of(histories)
    known.forget()
    known.reached(30)
    found = await judge(histories, [told("a", b"{}", 15.0, 1.0)], {9, 12}, known)
    assert [one.verdict for one in found] == ["undecided"]
