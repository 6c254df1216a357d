"""What follows from what the cache and MongoDB answer of one group."""

from dataclasses import replace

import pytest

from neverstale.ops.why.group_story import GroupStory, _path, verdict
from neverstale.ops.why.held import Held

OLD, NEW = f"{1:016x}", f"{2:016x}"


def test_each_kind_is_asked_for_where_it_is() -> None:
    assert _path("flights", "lists.departures", ["origin=JFK", "gate:null"]).endswith("?origin=JFK&gate:null")
    assert _path("users", "lookups.email", ["email=a/b@c"]) == "/v1/users/-/by/email/a%2Fb%40c"


def held(digest: str, version: str, status: int | None = 200) -> Held:
    return Held("http://h:1", status, "l1", version, "0.4", digest)


STORY = GroupStory(
    "flights", "counters.all", [], None, "g", "complete", None, NEW, 400, held("d", NEW), {}, [held("d", OLD)]
)


VERDICTS: list[tuple[GroupStory, bool, str, str]] = [
    (STORY, True, "cached", "answers what MongoDB answers"),
    (replace(STORY, held=[held("e", f"{3:016x}")]), True, "cached", "answers what MongoDB answers"),
    (replace(STORY, mongodb=held("", NEW, 404), held=[held("", NEW, 404)]), True, "cached", "answers what"),
    (replace(STORY, held=[held("", "", 504)]), True, "not-cached", "does not hold it"),
    (replace(STORY, phase=None), True, "nothing-counted", "nothing is counted"),
    (replace(STORY, mongodb=held("", "", 403)), True, "not-compared", "nothing can be compared"),
    (replace(STORY, held=[held("e", OLD)], watermark=OLD), True, "on-its-way", "not applied yet"),
    (replace(STORY, held=[held("e", OLD)], watermark=None, age_ms=None), True, "on-its-way", "an unknown time"),
    (replace(STORY, held=[held("e", OLD)], watermark=OLD, age_ms=65_000, stands=True), False, "stands", "65 s old"),
    (replace(STORY, held=[held("e", OLD)]), False, "broken", "this must not be"),
    (replace(STORY, mongodb=None), False, "nobody-served", "no process of the API answers"),
    (replace(STORY, problem="no connection"), False, "nobody-can-tell", "nobody can tell"),
]


@pytest.mark.parametrize(("story", "ok", "name", "words"), VERDICTS, ids=lambda value: str(value)[:20])
def test_each_state_that_may_be_has_its_sentence(story: GroupStory, ok: bool, name: str, words: str) -> None:
    told = verdict(story)
    assert (told.ok, told.name) == (ok, name) and words in told.sentence
