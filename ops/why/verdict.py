"""What follows from the story of one document, in one sentence.

The verdict compares states, not times. What Redis holds as current, read at version v, must show every change up to
the watermark W of its partition. So where it shows another state than MongoDB, and MongoDB's state *at W* is another,
too, a change was applied and is missing: a promise is broken. Else the change is younger than W, and on its way.
"""

from dataclasses import dataclass
from typing import Literal

from neverstale.ops.why.held import Held
from neverstale.ops.why.story import ABSENT, Story

VerdictName = Literal[
    "cached",
    "not-cached",
    "being-read",
    "stale",
    "below-floor",
    "floor-unknown",
    "on-its-way",
    "nothing-tells",
    "not-compared",
    "nothing-counted",
    "stands",
    "broken",
    "nobody-served",
    "nobody-can-tell",
]


@dataclass(frozen=True, slots=True)
class Verdict:
    ok: bool
    """Nothing that contradicts a promise, and nothing that stands."""
    name: VerdictName
    """It stays when the sentence is reworded."""
    sentence: str


def nobody_can_tell(server: str, problem: str) -> Verdict:
    return Verdict(False, "nobody-can-tell", f"nobody can tell, for {server} does not answer: {problem}.")


def watermark_stands(where: str, age_ms: int | None, late: bool) -> Verdict:
    shown = ", and what changed since then is not shown" if late else ""
    seconds = (age_ms or 0) / 1000
    sentence = (
        f"the watermark of {where} is {seconds:.0f} s old{shown}: `neverstale doctor` says who does not do his work."
    )
    return Verdict(False, "stands", sentence)


def verdict(story: Story) -> Verdict:
    """What follows, in one sentence."""
    for rule in (_away, _untold, _broken, _older_elsewhere, _standing):
        if (found := rule(story)) is not None:
            return found
    return _as_it_is(story)


def _away(story: Story) -> Verdict | None:
    for name, problem in (("MongoDB", story.mongodb.problem), ("Redis", story.redis.problem)):
        if problem is not None:
            return nobody_can_tell(name, problem)
    return None


def _untold(story: Story) -> Verdict | None:
    if story.mongodb.kept:
        return None
    sentence = "nothing tells of changes of this collection, so every answer comes from MongoDB."
    return Verdict(True, "nothing-tells", sentence)


def _broken(story: Story) -> Verdict | None:
    mongodb, redis = story.mongodb, story.redis
    watermark, at = redis.watermark, mongodb.at_watermark
    if not redis.is_answer or at is None or redis.digest == at or redis.digest == mongodb.digest:
        return None
    if watermark is None or str(redis.version) >= watermark:
        return None
    return Verdict(
        False,
        "broken",
        f"Redis holds the state of {redis.version}, although a change since then was applied up to {watermark}: "
        f"this must not be. Repair it with `neverstale invalidate {story.resource} {story.key}` and report it.",
    )


def _older_elsewhere(story: Story) -> Verdict | None:
    """A process that answers a state which MongoDB had left before the watermark, with a bound that denies it."""
    mongodb, redis = story.mongodb, story.redis
    if mongodb.at_watermark is None or redis.watermark is None or redis.age_ms is None:
        return None
    for one in story.held:
        old = one.answers and _digest(one) not in (mongodb.digest, mongodb.at_watermark)
        if old and str(one.version) < redis.watermark and _seconds(one.bound) * 1000 < redis.age_ms:
            return Verdict(
                False,
                "broken",
                f"{one.url} answers the state of {one.version} with a bound of {one.bound} s, although a change that "
                "is older is missing: this must not be. Restart that process and report it.",
            )
    return None


def _seconds(bound: str | None) -> float:
    try:
        return float(bound or "inf")
    except ValueError:
        return float("inf")  # unknown: nothing is promised


def _standing(story: Story) -> Verdict | None:
    if not story.stands:
        return None
    where = f"partition {story.partition.number}" if story.partition is not None else "its partition"
    return watermark_stands(where, story.redis.age_ms, story.redis.digest != story.mongodb.digest)


def _as_it_is(story: Story) -> Verdict:
    mongodb, redis = story.mongodb, story.redis
    what = "the document" if mongodb.present else "its absence"
    if redis.state == "missing":
        return Verdict(True, "not-cached", f"{what} is not cached: the next reader has it read from MongoDB.")
    if redis.state == "lease":
        return Verdict(True, "being-read", f"{what} is being read from MongoDB for somebody, and will be cached.")
    if redis.floor is None:
        sentence = "nobody knows up to when the cache is right, so answers come from MongoDB for now."
        return Verdict(True, "floor-unknown", sentence)
    if redis.state == "stale":
        return Verdict(True, "stale", f"it changed at {redis.version}: the next reader has it read from MongoDB.")
    if not redis.is_answer:
        sentence = f"it was read before the floor of its collection was raised to {redis.floor}: a miss."
        return Verdict(True, "below-floor", sentence)
    if redis.digest == mongodb.digest:
        return Verdict(True, "cached", f"{what} is cached, and it is what MongoDB has now.")
    return Verdict(True, "on-its-way", _on_its_way(story))


def _on_its_way(story: Story) -> str:
    """A change is younger than the watermark."""
    age = f"{(story.redis.age_ms or 0) / 1000:.1f} s" if story.redis.age_ms is not None else "an unknown time"
    change = story.change
    if change is not None and change.version is not None and change.version > str(story.redis.version):
        lag = story.partition.lag if story.partition is not None else None
        return (
            f"it has just changed: record {change.offset} is published and not applied yet ({lag} records wait), and "
            f"answers say so by a bound of {age}."
        )
    return f"it has just changed: the watcher has not published it yet, and answers say so by a bound of {age}."


def _digest(one: Held) -> str | None:
    return ABSENT if one.status == 404 else one.digest
