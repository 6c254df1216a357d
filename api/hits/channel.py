"""The channel: hears what consumers announce, keeps L1 true to it, and wakes live reads.

A subscription that breaks, leads to another Redis than reads do, or falls silent voids L1: then it must hear marks of
every partition again. Silence breaks no promise, since a bound that rests on old marks grows; but Redis knows better
by then, and a connection may be dead without saying so.

Announcements count only in full: a missing number, a mark about another Redis, or a partition whose marks come from a
new publisher (whose predecessor may have said something last that was not heard) end a hearing. All it said so far is
void, and another one begins.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from neverstale.api.freshness.groups import GroupedFreshness
from neverstale.api.freshness.redis_identity import tell_identity
from neverstale.api.reads.l1 import L1
from neverstale.api.reads.source import DocumentSource
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.keys import Names
from neverstale.links.redis_refusals import reason_of
from neverstale.redis.announcements import EVERY, AnnouncedMarks, Announcement, Unreadable, decode
from neverstale.role import telemetry
from neverstale.role.damage import Damage
from neverstale.role.log_repetitions import Seldom
from neverstale.versions import Version, to_hex

log = telemetry.logger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0
MOST_PUBLISHERS: Final = 1_000
"""A consumer is one, and another one whenever it starts; a hearing of more is not remembered, but begun again."""


class Woken(Protocol):
    """Live reads, as the channel wakes them (`neverstale.api.live.feeds.Feeds`)."""

    @property
    def idle(self) -> bool: ...

    def hear(self, at: Version) -> None: ...

    def changed(self, name: bytes) -> None: ...

    def changed_group(self, group: bytes) -> None: ...

    def changed_groups(self, beginning: bytes) -> None: ...

    def all_changed(self) -> None: ...

    def vouch(self, watermark: Version, group: str = DEFAULT_GROUP) -> None: ...

    def void(self) -> None: ...


class BrokenSubscription(Exception):
    """Something may not have been heard."""


class HeardTopic:
    """The marks of one watcher group's topic, as far as they were heard."""

    def __init__(self) -> None:
        self.partitions = 0
        self.marks: dict[int, Version] = {}
        self.publishers: dict[int, str] = {}
        self.coverages: dict[int, str] = {}

    def is_whole(self, of: int | None) -> bool:
        """Of all its partitions, or of the one that is announced here."""
        return 0 < (self.partitions if of is None else 1) == len(self.marks)


class Hearing:
    """What one unbroken subscription has heard, and what that is worth.

    `identity`: the Redis that the subscription leads to. `note` is told of every mark that counts; `covers` says
    whether a coverage is all that is declared here of a watcher group.
    """

    def __init__(
        self,
        identity: str,
        note: Callable[[Version, int], None],
        damage: Damage,
        covers: Callable[[str, str], bool] = lambda group, coverage: True,
        of: int | None = None,
    ) -> None:
        """`of`: the one partition that is announced here; `None`: all are."""
        self._of = of
        self._identity = identity
        self._damage = damage
        self._note = note
        self._numbers: dict[str, int] = {}
        self._topics: defaultdict[str, HeardTopic] = defaultdict(HeardTopic)
        """By watcher group."""
        self._covers = covers

    def watermark(self, group: str = DEFAULT_GROUP) -> Version:
        """Everything of a watcher group up to here was announced, or applied before this hearing began; 0: unknown
        yet, or not all that is read here is announced, since a publisher has another catalog."""
        topic = self._topics[group]
        if not topic.is_whole(self._of):
            return 0
        covered = all(self._covers(group, coverage) for coverage in set(topic.coverages.values()))
        return min(topic.marks.values()) if covered else 0

    def follows(self, announcement: Announcement) -> None:
        """Notes the number. Raises `BrokenSubscription` if one before it is missing; one may come twice."""
        publisher, number = announcement.publisher, announcement.number
        last = self._numbers.get(publisher)
        if last is not None and number > last + 1:
            raise BrokenSubscription(f"announcements {last + 1} to {number - 1} of a publisher are missing")
        if last is None and len(self._numbers) >= MOST_PUBLISHERS:
            raise BrokenSubscription("too many publishers")
        self._numbers[publisher] = number if last is None else max(last, number)

    def mark(self, publisher: str, marks: AnnouncedMarks) -> None:
        """Takes in marks. Comes after the changes that were announced before them have been dropped."""
        topic = self._topics[marks.group]
        if marks.identity != self._identity:
            raise BrokenSubscription("marks of another Redis")
        if marks.partitions != topic.partitions and topic.partitions:
            raise BrokenSubscription("the number of partitions changed")
        topic.partitions = marks.partitions
        for partition, (version, wall_ms) in marks.by_partition.items():
            if version > self._damage.latest() or self._damage.is_ahead(wall_ms):
                raise Unreadable(f"mark {to_hex(version)}, wall time {wall_ms}, lies ahead of MongoDB's clock")
            if topic.publishers.setdefault(partition, publisher) != publisher:
                raise BrokenSubscription(f"partition {partition} has another publisher")
            topic.marks[partition] = max(version, topic.marks.get(partition, 0))
            topic.coverages[partition] = marks.coverage
            self._note(version, wall_ms)


class Channel:
    """`redis`: a client for this channel alone."""

    def __init__(
        self,
        redis: Redis | None,
        names: Names,
        l1: L1,
        freshness: GroupedFreshness,
        silence_seconds: float,
        damage: Damage,
        documents: Mapping[str, DocumentSource],
        feeds: Woken,
        of: int | None = None,
    ) -> None:
        """`documents`: by resource. `of`: the one partition that is announced here; `None`: all are."""
        self._of = of
        self._feeds = feeds
        self._redis: Any = redis
        self._names = names
        self._begins = names.base + ":"
        self._l1 = l1
        self._freshness = freshness
        self._silence_seconds = silence_seconds
        self._damage = damage
        self._documents = documents
        self._identity: str | None = None
        self._hearing: Hearing | None = None
        self._complaint = Seldom()
        if redis is not None:
            tell_identity(redis, self._opened)
        freshness.on_void(lambda: self._begin_again("reads lead to another Redis"))

    async def listen(self) -> None:
        """Hears for ever."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async with self._subscribed() as subscription:
                    while True:
                        async with asyncio.timeout(self._silence_seconds):
                            message = await _next(subscription)
                        pause = FIRST_PAUSE_SECONDS
                        self.hear(message)
            except Exception as error:
                self._identity = None
                reason = f"the subscription broke: {reason_of(error)}"
                self._end(reason)
                if times := self._complaint.due():
                    log.warning("channel_broken", reason=reason, times=times)
                if not isinstance(error, (RedisError, OSError, TimeoutError)):
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[Any]:
        async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(self._names.announcements)
            yield subscription

    def hear(self, message: bytes) -> None:
        """Applies one message: changes and floors first, then marks. Whatever it is, hearing goes on."""
        try:
            self._apply(decode(message))
        except BrokenSubscription as reason:
            self._begin_again(str(reason))
        except Exception as error:
            # Anybody may publish anything. It may have said that something changed.
            self._damage.met("announcement", f"{type(error).__name__}: {error}")
            self._begin_again("an announcement cannot be read")

    def _apply(self, announcement: Announcement) -> None:
        hearing = self._hearing
        if hearing is None:
            return
        hearing.follows(announcement)
        self._drop(announcement)
        if announcement.marks is not None:
            self._mark(hearing, announcement.publisher, announcement.marks)

    def _mark(self, hearing: Hearing, publisher: str, marks: AnnouncedMarks) -> None:
        group = marks.group
        if group not in self._freshness.groups:
            return  # nothing of it is declared here
        hearing.mark(publisher, marks)
        watermark = hearing.watermark(group)
        if watermark and self._identity == self._freshness.identity:
            self._l1.vouch(watermark, group)
            self._feeds.vouch(watermark, group)

    def _drop(self, announcement: Announcement) -> None:
        if not self._feeds.idle:
            self._wake(announcement)
        if self._l1.idle:
            return  # what was spelled for nothing would cost a process without readers as much as any other
        for key in announcement.keys:
            if not key.startswith(self._begins):
                raise Unreadable("what changed lies elsewhere")
            resource, kind, canonical = key[len(self._begins) :].split(":", 2)
            if kind != "d" or not canonical:
                raise Unreadable("what changed is no document")
            source = self._documents.get(resource)
            self._l1.changed(key.encode(), source.lines(canonical) if source is not None else ())
        for group in announcement.groups:
            beginning, every, _ = group.partition(EVERY)
            if every:
                self._l1.changed_groups(beginning.encode())
            else:
                self._l1.changed_group(group.encode())
        if announcement.floors:
            self._l1.clear()

    def _wake(self, announcement: Announcement) -> None:
        feeds = self._feeds
        feeds.hear(min(announcement.at, self._damage.latest()))
        for key in announcement.keys:
            feeds.changed(key.encode())
        for group in announcement.groups:
            beginning, every, _ = group.partition(EVERY)
            if every:
                feeds.changed_groups(beginning.encode())
            else:
                feeds.changed_group(group.encode())
        if announcement.floors:
            feeds.all_changed()

    def _opened(self, identity: str) -> None:
        """A new connection: nothing was heard while there was none. Called before it subscribes."""
        self._identity = identity
        self._begin_again("the subscription begins")

    def _begin_again(self, reason: str) -> None:
        self._end(reason)
        if self._identity is not None:
            freshness = self._freshness
            self._hearing = Hearing(self._identity, freshness.marks.note, self._damage, freshness.covers, self._of)

    def _end(self, reason: str) -> None:
        if self._l1.watermark:
            telemetry.L1_VOIDED.inc()
            log.info("l1_voided", reason=reason)
        self._l1.void()
        self._feeds.void()
        self._hearing = None


async def _next(subscription: Any) -> bytes:
    while True:
        message: Mapping[str, Any] | None = await subscription.get_message(timeout=None)
        if message is not None and message["type"] in ("message", "smessage"):
            data: bytes = message["data"]
            return data
