"""All feeds of a process: what the channel hears wakes them, and what it cannot hear is looked for.

As long as the channel hears everything, a feed is read when something that it shows is announced, and never else.
When that has ended, for whatever reason, all feeds are read once more as soon as another hearing is whole, and again
and again until then. The same is done for what nothing tells of: collections without a change stream, and what is
derived while no generation of it is complete.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Iterable
from time import monotonic
from typing import Any, Final, NoReturn

from neverstale.api.freshness.vouched import Vouched
from neverstale.api.live import events
from neverstale.api.live.feed import LiveFeed
from neverstale.api.live.streams import LiveStream
from neverstale.api.live.subjects import LiveSubject
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.redis.announcements import EVERY
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.role.tasks import Tasks
from neverstale.settings import LiveSettings
from neverstale.versions import Version

READS_AT_ONCE: Final = 200
FEEDS_A_TURN: Final = 500
TICK_SECONDS: Final = 0.025
DUE: Final = 0.6
"""After this part of `live.bound_interval_ms` a stream is due to say its bound; the rest is for those before it."""
TICKS: Final = 12
"""All that are due at once have said it after so many ticks."""

Bound = Callable[[Version], float | None]


class Feeds:
    """What is watched through one process. Every method belongs to its event loop."""

    def __init__(
        self, settings: LiveSettings, tasks: Tasks, bound: Bound, clock: Callable[[], float] = time.time
    ) -> None:
        self.vouched = Vouched()
        """What is heard now, and up to where all was announced in this hearing, or applied before it began."""
        self.announced: Version = 0
        """The highest version that was announced in this hearing, or a watermark if one is higher."""
        self._at: Version = 0
        """What is being announced now has no higher version."""
        self.reading = asyncio.Semaphore(READS_AT_ONCE)
        self.state_seconds = settings.state_interval_ms / 1000
        self._bound = bound
        self._clock = clock
        self._tasks = tasks
        self._due_seconds = settings.bound_interval_ms / 1000 * DUE
        self._tick_seconds = min(TICK_SECONDS, self._due_seconds / TICKS)
        self._unheard_seconds = settings.unheard_interval_ms / 1000
        self._looks_soon = asyncio.Event()
        self._watched = asyncio.Event()
        self._feeds: dict[Hashable, LiveFeed] = {}
        self._by_name: dict[bytes, dict[LiveFeed, None]] = {}
        self.streams: OrderedDict[LiveStream, None] = OrderedDict()
        """In the order in which they have said something last."""

    # --- who watches

    def feed(self, subject: LiveSubject) -> LiveFeed:
        """The feed of a subject. Whoever takes one is a guest of it, and leaves it."""
        feed = self._feeds.get(subject.identity)
        if feed is None:
            feed = self._feeds[subject.identity] = LiveFeed(subject, self)
            self.rename(feed, subject.names)
        feed.guests += 1
        return feed

    def leave(self, feed: LiveFeed) -> None:
        """A guest leaves."""
        feed.guests -= 1
        self.let_go(feed)

    def join(self, feed: LiveFeed, stream: LiveStream) -> None:
        feed.streams[stream] = None
        self.streams[stream] = None
        self._watched.set()
        telemetry.LIVE_STREAMS.set(len(self.streams))

    def part(self, feed: LiveFeed, stream: LiveStream) -> None:
        feed.streams.pop(stream, None)
        self.streams.pop(stream, None)
        telemetry.LIVE_STREAMS.set(len(self.streams))
        self.let_go(feed)

    def let_go(self, feed: LiveFeed) -> None:
        """Forgets a feed that nobody watches."""
        if not feed.streams and not feed.guests and self._feeds.get(feed.subject.identity) is feed:
            del self._feeds[feed.subject.identity]
            self._unname(feed)

    def rename(self, feed: LiveFeed, names: frozenset[bytes]) -> None:
        """What announcements call what it shows."""
        self._unname(feed)
        feed.names = names
        for name in feed.names:
            self._by_name.setdefault(name, {})[feed] = None

    def _unname(self, feed: LiveFeed) -> None:
        for name in feed.names:
            named = self._by_name[name]
            del named[feed]
            if not named:
                del self._by_name[name]
        feed.names = frozenset()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.start(work, "live")

    # --- what is heard

    @property
    def idle(self) -> bool:
        return not self._feeds

    def hear(self, at: Version) -> None:
        """What is announced next has no higher version; 0: nobody knows."""
        self.announced = max(self.announced, at)
        self._at = at or self.announced

    def changed(self, name: bytes) -> None:
        """A document of this name has changed."""
        self._wake(self._by_name.get(name, ()))

    def changed_group(self, group: bytes) -> None:
        self._wake(self._by_name.get(group, ()))
        self._wake(self._by_name.get(group[: group.rindex(b"|") + 1] + EVERY.encode(), ()))

    def changed_groups(self, beginning: bytes) -> None:
        for name in [name for name in self._by_name if name.startswith(beginning)]:
            self._wake(self._by_name.get(name, ()))

    def all_changed(self) -> None:
        self._wake(self._feeds.values())

    def vouch(self, watermark: Version, group: str = DEFAULT_GROUP) -> None:
        """All of a watcher group up to here was announced, or applied before the hearing began."""
        if self.vouched.vouch(watermark, group):
            self._looks_soon.set()
        self.announced = max(self.announced, watermark)

    def void(self) -> None:
        """Something may not have been heard."""
        for feed in self._feeds.values():
            feed.keep_complete()
        self.vouched.void()
        self.announced = 0

    def _wake(self, feeds: Iterable[LiveFeed]) -> None:
        for feed in list(feeds):
            feed.wake(self._at)

    async def keep_looking(self) -> NoReturn:
        """Reads what is doubtful, for ever."""
        await forever(self._look)

    async def _look(self) -> float:
        self._looks_soon.clear()
        feeds = list(self._feeds.values())
        for first in range(0, len(feeds), FEEDS_A_TURN):
            for feed in feeds[first : first + FEEDS_A_TURN]:
                if feed.is_doubtful:
                    feed.wake(self.announced)
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(self._unheard_seconds):
                await self._looks_soon.wait()
        except TimeoutError:
            pass
        return 0.0

    # --- what is said in between

    def bound_line(self, feed: LiveFeed) -> bytes:
        complete = feed.complete
        return events.bound_line(self._bound(complete) if complete else None)

    async def keep_telling(self) -> NoReturn:
        """Tells every stream its bound, for ever."""
        await forever(self._tell)

    async def _tell(self) -> float:
        if not self.streams:
            self._watched.clear()
            await self._watched.wait()
        now, said = monotonic(), dict[LiveFeed, events.Words]()
        most = math.ceil(len(self.streams) / TICKS) + 1
        while most and self.streams and (stream := next(iter(self.streams))).spoke <= now - self._due_seconds:
            most -= 1
            if stream.caller.until <= self._clock():
                stream.end("caller")
            if stream.wants(stream.feed.state):
                stream.feed.show_to([stream])  # the bound is that of the new state
                continue
            words = said.get(stream.feed)
            if words is None:
                words = said[stream.feed] = events.Words(self.bound_line(stream.feed) + b"\n")
            stream.say_words(words)
        return self._tick_seconds

    def spoke(self, stream: LiveStream) -> None:
        """A stream has said something just now, or had to be left out."""
        if stream in self.streams:
            self.streams.move_to_end(stream)

    def end_all(self) -> None:
        """The process ends."""
        for stream in list(self.streams):
            stream.end("drained")
