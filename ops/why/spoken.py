"""A story as a person reads it: about what, and what."""

import datetime
from collections.abc import Iterable

from neverstale.ops.why.held import Held
from neverstale.ops.why.story import FRESH, InMongoDB, InRedis, Partition, Story
from neverstale.ops.why.verdict import Verdict


def lines(story: Story, told: Verdict) -> Iterable[tuple[str, str]]:
    """What a person reads: (about what, what)."""
    yield "verdict", told.sentence
    yield "MongoDB", _mongodb(story.mongodb)
    yield "Redis", _redis(story.redis)
    if story.partition is not None:
        yield "partition", _partition(story.partition, story.redis)
    yield "last change", _change(story)
    for one in story.held:
        yield one.url, spoken(one)
    if not story.held:
        yield "API", "no process has said that it runs"


def _mongodb(found: InMongoDB) -> str:
    if found.problem is not None:
        return f"does not answer: {found.problem}"
    return f"{'present' if found.present else 'absent'} at {found.version}, digest {found.digest}"


def _redis(found: InRedis) -> str:
    if found.problem is not None:
        return f"does not answer: {found.problem}"
    said: list[str] = [found.state]
    if found.version is not None:
        said.append(f"as of {found.version}")
    if found.digest is not None:
        said.append(f"digest {found.digest}")
    if found.left_ms is not None and found.left_ms >= 0:
        said.append(f"for another {found.left_ms / 1000:.0f} s")
    if found.state in FRESH:
        said.append("read since its fill" if found.read_since_fill else "not read since its fill")
    cell = f" in cell {found.cell}" if found.cell else ""
    return f"{', '.join(said)}{cell}; floor {found.floor or 'unknown'}, applied {found.applied or 'unknown'}"


def _partition(partition: Partition, redis: InRedis) -> str:
    owner = partition.owner or "nobody"
    age = "" if redis.age_ms is None else f", {redis.age_ms / 1000:.1f} s old"
    lag = "unknown" if partition.lag is None else str(partition.lag)
    return f"{partition.number}, held by {owner}; watermark {redis.watermark or 'unknown'}{age}; {lag} records wait"


def _change(story: Story) -> str:
    searched, change = story.searched, story.change
    if searched is None:
        return "Kafka does not answer"
    if change is None:
        if searched.since_ms is None:
            return "the partition is empty"
        reach = "that the topic still holds" if searched.whole else "that was looked at"
        return f"none {reach}, since {at(searched.since_ms)} (offset {searched.first_offset})"
    fields = "all fields" if change.fields is None else ", ".join(change.fields) or "no field"
    version = f" at {change.version}" if change.version is not None else ""
    said = f"{change.operation} of {fields}{version}: offset {change.offset}, published {at(change.published_ms)}"
    return f"{said}, {_whether_applied(story)}"


def _whether_applied(story: Story) -> str:
    applied = story.change_is_applied
    if applied is None:
        return "nobody knows whether it is applied to this Redis"
    if not applied:
        return "not applied yet"
    by = f" by {story.partition.by}" if story.partition is not None and story.partition.by else ""
    return f"applied{by} (up to offset {story.redis.reached})"


def spoken(one: Held) -> str:
    if one.status is None:
        return "does not answer"
    if one.status == 504:
        return "has nothing that it may answer without asking MongoDB"
    if not one.answers:
        return f"answers {one.status}"
    what = f"digest {one.digest}" if one.digest is not None else "absent"
    return f"answers {one.status} from {one.source or 'the cache'} as of {one.version}, {what}, bound {one.bound} s"


def at(ms: int) -> str:
    """A time as people write it."""
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).isoformat(timespec="milliseconds")
