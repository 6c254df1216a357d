"""What follows from the parts of a story: one sentence, and whether something is wrong."""

from dataclasses import replace
from typing import Any, get_args

import pytest

from neverstale.ops.why.held import Held
from neverstale.ops.why.last_change import LastChange, Searched
from neverstale.ops.why.spoken import lines
from neverstale.ops.why.story import ABSENT, InMongoDB, InRedis, Partition, Story
from neverstale.ops.why.verdict import VerdictName, verdict
from tests.unit.ops.why import test_group_story

OLD, MARK, NEW, NOW = (f"{second:016x}" for second in (1, 2, 3, 4))
MONGODB = InMongoDB(None, True, NOW, "d" * 16)
REDIS = InRedis(None, "data", OLD, "d" * 16, floor=OLD, applied=MARK, watermark=MARK, age_ms=400, reached=8)
PARTITION = Partition(2, "h-1-abc (10.0.0.1)", 7, "h-1", 1)
STORY = Story("flights", "a", "s:a", MONGODB, REDIS, PARTITION, Searched(None, 0, 1000, True), [])
CHANGE = LastChange("update", ["status"], NEW, 8, 1_700_000_000_000)
OTHER = "e" * 16


def held(digest: str | None, version: str, bound: str, status: int = 200) -> Held:
    return Held("http://h:1", status, "l1", version, bound, digest)


def redis(**changes: Any) -> Story:
    return replace(STORY, redis=replace(REDIS, **changes))


MISSING = replace(REDIS, state="missing", version=None, digest=None)
GONE = InMongoDB(None, False, NOW, ABSENT)

VERDICTS: list[tuple[Story, bool, str, str]] = [
    (STORY, True, "cached", "the document is cached, and it is what MongoDB has now"),
    (
        replace(STORY, mongodb=GONE, redis=replace(REDIS, state="absent", digest=ABSENT)),
        True,
        "cached",
        "its absence is cached",
    ),
    (replace(STORY, redis=MISSING), True, "not-cached", "the document is not cached"),
    (replace(STORY, mongodb=GONE, redis=MISSING), True, "not-cached", "its absence is not cached"),
    (redis(state="lease", digest=None), True, "being-read", "is being read"),
    (redis(state="stale", digest=OTHER), True, "stale", f"it changed at {OLD}"),
    (redis(floor=None), True, "floor-unknown", "nobody knows up to when"),
    (redis(floor=MARK), True, "below-floor", f"the floor of its collection was raised to {MARK}"),
    (replace(STORY, mongodb=replace(MONGODB, kept=False)), True, "nothing-tells", "nothing tells of changes"),
    (
        replace(STORY, mongodb=replace(MONGODB, digest=OTHER, at_watermark="d" * 16)),
        True,
        "on-its-way",
        "the watcher has not published it yet",
    ),
    (replace(STORY, mongodb=replace(MONGODB, digest=OTHER, at_watermark=OTHER)), False, "broken", "this must not be"),
    (replace(STORY, stands=True, redis=replace(REDIS, age_ms=65_000)), False, "stands", "partition 2 is 65 s old"),
    (replace(STORY, stands=True, redis=replace(MISSING, age_ms=65_000)), False, "stands", "is not shown"),
    (replace(STORY, mongodb=InMongoDB("no answer")), False, "nobody-can-tell", "MongoDB does not answer"),
    (replace(STORY, redis=InRedis("no connection")), False, "nobody-can-tell", "Redis does not answer"),
]


@pytest.mark.parametrize(("story", "ok", "name", "words"), VERDICTS, ids=lambda value: str(value)[:20])
def test_each_state_that_may_be_has_its_sentence(story: Story, ok: bool, name: str, words: str) -> None:
    told = verdict(story)
    assert (told.ok, told.name) == (ok, name) and words in told.sentence
    assert told.sentence.endswith(".") and told.sentence.count(". ") <= 1


def test_no_verdict_is_without_a_state_that_leads_to_it() -> None:
    found = {name for _, _, name, _ in VERDICTS} | {name for _, _, name, _ in test_group_story.VERDICTS}
    assert found == set(get_args(VerdictName))


def test_a_change_that_is_younger_than_the_watermark_is_on_its_way() -> None:
    young = replace(STORY, mongodb=replace(MONGODB, digest=OTHER, at_watermark="d" * 16))
    assert verdict(young).ok and "the watcher has not published it yet" in verdict(young).sentence
    published = replace(young, searched=Searched(CHANGE, 0, 1000, True))
    assert (
        verdict(published).ok
        and "record 8 is published and not applied yet (1 records wait)" in verdict(published).sentence
    )


def test_a_fresh_entry_that_lacks_a_change_before_the_watermark_is_a_broken_promise() -> None:
    broken = replace(STORY, mongodb=replace(MONGODB, digest=OTHER, at_watermark=OTHER))
    told = verdict(broken)
    assert not told.ok and "this must not be" in told.sentence and "neverstale invalidate flights a" in told.sentence


def test_a_process_that_denies_by_its_bound_what_it_lacks_is_a_broken_promise() -> None:
    moved = replace(
        STORY, mongodb=replace(MONGODB, digest=OTHER, at_watermark=OTHER), redis=replace(REDIS, digest=OTHER)
    )
    honest = replace(
        moved, held=[held("d" * 16, OLD, "0.900"), held("d" * 16, OLD, "unknown"), held(OTHER, NEW, "0")]
    )
    assert verdict(honest).ok
    assert not verdict(replace(moved, held=[held("d" * 16, OLD, "0.200")])).ok
    assert not verdict(replace(moved, held=[held(None, OLD, "0.200", status=404)])).ok


def test_a_person_reads_what_changed_when_and_who_applied_it() -> None:
    story = redis(reached=9)
    told = dict(lines(replace(story, searched=Searched(CHANGE, 0, 1000, True)), verdict(story)))
    assert told["last change"] == (
        f"update of status at {NEW}: offset 8, published 2023-11-14T22:13:20.000+00:00, "
        "applied by h-1 (up to offset 9)"
    )
    assert told["partition"] == f"2, held by h-1-abc (10.0.0.1); watermark {MARK}, 0.4 s old; 1 records wait"
    assert told["API"] == "no process has said that it runs"
