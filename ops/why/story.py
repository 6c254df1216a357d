"""The story of one document: what MongoDB has, what Redis holds, what changed last, what the API answers; and what
follows from that.

The verdict compares states, not times. What Redis holds as current, read at version v, must show every change up to
the watermark W of its partition. So where it shows another state than MongoDB, and MongoDB's state *at W* is another,
too, a change was applied and is missing: a promise is broken. Else the change is younger than W, and on its way.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from neverstale.ops.why.held import Held
from neverstale.ops.why.last_change import LastChange, Searched

State = Literal["missing", "lease", "data", "absent", "stale"]
FRESH: Final = ("data", "absent")
ABSENT: Final = "0" * 16
"""The digest of no document."""


@dataclass(frozen=True, slots=True)
class InMongoDB:
    problem: str | None
    present: bool | None = None
    version: str | None = None
    digest: str | None = None
    kept: bool = True
    """Whether anything tells of changes of it."""
    at_watermark: str | None = None
    """Digest of the state at the watermark, if that was asked for."""


@dataclass(frozen=True, slots=True)
class InRedis:
    problem: str | None
    state: State = "missing"
    version: str | None = None
    digest: str | None = None
    read_since_fill: bool = False
    left_ms: int | None = None
    """Until it ends by itself."""
    floor: str | None = None
    applied: str | None = None
    watermark: str | None = None
    age_ms: int | None = None
    """Of the watermark."""
    reached: int | None = None
    """Offset up to which the partition is applied to this Redis."""

    @property
    def is_answer(self) -> bool:
        """Whether a reader would be given it."""
        known = self.floor is not None and self.version is not None
        return self.state in FRESH and known and str(self.version) >= str(self.floor)


@dataclass(frozen=True, slots=True)
class Partition:
    number: int
    owner: str | None
    """Which consumer has it now."""
    committed: int | None
    by: str
    """Which consumer has committed last."""
    lag: int | None


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


@dataclass(frozen=True, slots=True)
class Story:
    resource: str
    key: str
    canonical: str
    mongodb: InMongoDB
    redis: InRedis
    partition: Partition | None
    searched: Searched | None
    """`None`: Kafka could not be asked."""
    held: Sequence[Held]
    stands: bool = False
    """The watermark is older than any takeover lasts."""

    @property
    def change(self) -> LastChange | None:
        return self.searched.found if self.searched is not None else None

    @property
    def change_is_applied(self) -> bool | None:
        """`None`: unknown."""
        if self.change is None or self.redis.reached is None:
            return None
        return self.change.offset < self.redis.reached


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
    return f"{', '.join(said)}; floor {found.floor or 'unknown'}, applied {found.applied or 'unknown'}"


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
