"""What the cache has been corrected up to: the watermark, kept current in the background.

The watermark is the minimum over the topic's partitions of the highest mark that the consumers have applied. An
entry read from Redis *after* a watermark W was known misses no change up to W, provided that it was read from the
Redis on which W was applied. That proviso is kept in three places: a partition's watermark counts only if it names
the Redis that it was read from; every new connection names the Redis that it leads to; and an identity that is not
the expected one voids the watermark and makes all connections again, so that none leads to another server.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from neverstale.api.freshness.bound import Bounds
from neverstale.catalog import Catalog
from neverstale.catalog.coverage import lacks
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.errors import Outage
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.redis.cache import Cache
from neverstale.redis.commands import Command
from neverstale.redis.watermarks import Watermark, Watermarks
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.role.service import Health
from neverstale.role.ticks import until_tick
from neverstale.versions import Version

log = telemetry.logger(__name__)

CLOCK_SECONDS = 1.0
"""Period at which the primary's clock is asked."""
OTHER_CATALOG: Final = "consumers or the watcher run with a catalog that does not declare it so"
UNKNOWN: Final = frozenset(("unknown",))
AGES_SECONDS = 1.0
"""Period at which the metrics are told how old watermarks are."""
IDLE: Final = 5
"""While they stand and nobody reads, watermarks are read so many times more seldom."""
NOT_KNOWN: Final = float("nan")
REDIS_CHANGED = "Redis changed; its consumers have not yet confirmed what it holds"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was known before a read of Redis was issued."""

    watermark: Version
    """0: unknown."""
    epoch: int


async def pause_after(started: float, interval: float, asked: asyncio.Event) -> float:
    """Waits behind a look until somebody reads, at most `IDLE` intervals; returns how long to pause before the next
    look. All in seconds, `started` by the monotonic clock."""
    try:
        async with asyncio.timeout(until_tick(IDLE * interval)):
            await asked.wait()
    except TimeoutError:
        return 0.0  # to wait once more would wake a process that rests twice for each look
    return max(interval - (time.monotonic() - started), interval / 10)


class Freshness:
    """The watermark of one consumer group, the marks, and (in `health`) the state of both servers.

    Run `keep_watermark` and `keep_clock` as long as it is used. `reconnect` closes the connections to Redis that
    are idle and has the others closed after use.
    """

    def __init__(
        self,
        cache: Cache,
        group: str,
        marks: Bounds,
        health: Health,
        reconnect: Callable[[], Awaitable[None]],
        catalog: Catalog | None = None,
        watches: str = DEFAULT_GROUP,
        of: int | None = None,
        *,
        tells_ages: bool = True,
        asked: asyncio.Event | None = None,
    ) -> None:
        """`catalog`: of the watcher group alone whose changes the consumer group applies; `watches`: its name.
        `of`: the one partition that writes what is read here; `None`: all do. `tells_ages`: of partitions' last
        marks, in the metrics. `asked` is set when somebody reads."""
        self._tells_ages = tells_ages
        self._of = of
        self.marks = marks
        self.watches = watches
        self._health = health
        self._cache = cache
        self._group = group
        self._reconnect = reconnect
        self._expected: str | None = None
        self._on_void: Callable[[], None] = lambda: None
        self._epoch = 0
        self._evidence = Evidence(0, 0)
        self._watermark: Version | None = None
        self._catalog = catalog
        self._lacks_of: dict[str, frozenset[str]] = {}
        """Digest of a coverage -> what it does not cover of our catalog."""
        self.lacks: frozenset[str] = frozenset()
        """What of our catalog is not corrected on all partitions (`neverstale.catalog.coverage.lacks`), since those
        who apply them run with another one: nothing of it may be answered from the cache, or kept there."""
        self._asked = asked or asyncio.Event()
        """Somebody has read since the watermarks were read last."""
        self._noted: Mapping[int, Watermark] | None = None
        """Those that the marks know."""
        self._told_until = 0.0
        """Monotonic seconds: ages of watermarks need not be told before."""
        self._why: str | None = "the watermarks have not been read yet"

    def on_void(self, call: Callable[[], None]) -> None:
        """`call` when reads may lead to another Redis than before, before anything is read from it."""
        self._on_void = call

    @property
    def identity(self) -> str | None:
        """The Redis that is read; `None`: in doubt."""
        return self._expected

    @property
    def watermark(self) -> Version | None:
        """Every entry in Redis misses no change up to this version; `None`: unknown, see `why`."""
        self._asked.set()
        return self._watermark

    @property
    def latest(self) -> Version | None:
        """The same, asked by nobody who reads."""
        return self._watermark

    @property
    def why(self) -> str | None:
        """Why answers from the cache have no bound now; `None`: they have one."""
        if self._why is None and self._watermark is not None and self.marks.bound(self._watermark) is None:
            return "the primary's clock is not known yet"
        return self._why

    def evidence(self) -> Evidence:
        """Take this before a read of Redis is issued."""
        self._asked.set()
        if (self._watermark or 0) != self._evidence.watermark or self._epoch != self._evidence.epoch:
            self._evidence = Evidence(self._watermark or 0, self._epoch)
        return self._evidence

    def still_holds(self, evidence: Evidence) -> bool:
        """Whether the reply came from the Redis that the evidence speaks of; ask when the reply is there."""
        return evidence.epoch == self._epoch

    def covers(self, digest: str) -> bool:
        """Whether who says this coverage corrects all that our catalog declares; one that says none is believed."""
        return not digest or self._lacks_of.get(digest, UNKNOWN) == frozenset()

    def bound(self, complete: Version) -> float | None:
        """See `Bounds.bound`."""
        return self.marks.bound(complete)

    def opened(self, identity: str) -> None:
        """A new connection leads to this Redis. Called before anything is read through it."""
        if self._expected is not None and identity != self._expected:
            telemetry.REDIS_CHANGED.inc()
            self._void()
        self._expected = identity

    def take(self, held: Watermarks) -> None:
        """Note what Redis holds now."""
        if held.by_partition is not self._noted:
            for mark in held.by_partition.values():
                self.marks.note(mark.version, mark.wall_ms)
            self._noted = held.by_partition if self.marks.latest_ms() is not None else None
        self._tell_ages(held)
        if held.identity != self._expected:
            self._void()
            return
        self._note_lacks(held)
        self._why = _why_unknown(held, self._counted(held))
        if self._why is None:
            self._watermark = min(held.by_partition[partition].version for partition in self._counted(held))
        else:
            self._watermark = None

    async def keep_watermark(self, interval_ms: int, resources: Iterable[str]) -> NoReturn:
        """Read the watermarks again and again, until cancelled; more seldom while they stand and nobody asks. Whoever
        asks next has a bound that is wider by that."""
        interval = interval_ms / 1000
        gauges = [telemetry.BOUND_SECONDS.labels(resource) for resource in resources]

        async def look() -> float:
            started = time.monotonic()
            self._asked.clear()
            before = self._watermark
            await self.poll()
            if self._watermark != before:
                self._asked.set()  # where changes come, whoever asks next wants to know of the last one
            bound = self.marks.bound(self._watermark) if self._watermark is not None else None
            for gauge in gauges:
                gauge.set(bound if bound is not None else NOT_KNOWN)
            return await pause_after(started, interval, self._asked)

        await forever(look)

    async def poll(self) -> None:
        """Read the watermarks once. An outage changes nothing that is known: the bound just grows."""
        try:
            held = await self._cache.watermarks(self._group, self._of)
        except Outage as outage:
            _note(self._health, "redis", outage.reason)
        else:
            await self._found(held)

    def question(self) -> Command:
        """The command that `poll` sends."""
        return self._cache.watermarks_question(self._group, self._of)

    async def answer(self, identity: str, reply: Any) -> None:
        """Takes a reply to `question`, of the Redis with this identity. What is none, or not all of it, is asked for
        again."""
        held = self._cache.watermarks_in(identity, reply, self._of) if isinstance(reply, list) else None
        await (self.poll() if held is None else self._found(held))

    def unanswered(self, error: Exception) -> None:
        """There was no reply to `question`."""
        _note(self._health, "redis", self._cache.outage(error).reason)

    async def _found(self, held: Watermarks) -> None:
        _note(self._health, "redis", None)
        await self._learn(held.coverages)
        self.take(held)
        if held.identity != self._expected:
            # A connection that is as old as the one before the change, or a server that became another one while
            # connected: only new connections can tell where all of them lead.
            self._expected = None
            await self._reconnect()

    async def _learn(self, digests: Iterable[str]) -> None:
        """What coverages mean that are not known yet. One whose text Redis does not hold covers nothing."""
        unknown = [digest for digest in digests if digest not in self._lacks_of]
        if not unknown or self._catalog is None:
            return
        try:
            texts = await self._cache.coverages(self._group, unknown)
        except Outage:
            return
        for digest, text in texts.items():
            if text is not None:
                self._lacks_of[digest] = lacks(self._catalog, text)

    def _note_lacks(self, held: Watermarks) -> None:
        if self._catalog is None:
            return
        before, all_of_it = self.lacks, lacks(self._catalog, None)
        found = [self._lacks_of.get(digest, all_of_it) for digest in held.coverages]
        self.lacks = frozenset().union(*found)
        if self.lacks - before:
            # What this process has in memory was vouched for by those who covered it.
            self._on_void()
        if self.lacks != before:
            log.warning("not_covered", reason=OTHER_CATALOG, lacks=sorted(self.lacks))

    def _tell_ages(self, held: Watermarks) -> None:
        now = time.monotonic()
        latest = self.marks.latest_ms()
        if not self._tells_ages or now < self._told_until or latest is None:
            return
        self._told_until = now + AGES_SECONDS
        for partition in self._counted(held):
            mark = held.by_partition.get(partition)
            known = mark is not None and mark.identity == held.identity
            age = (latest - mark.wall_ms) / 1000 if mark is not None and known else NOT_KNOWN
            telemetry.WATERMARK_AGE.labels(self.watches, str(partition)).set(age)

    def _counted(self, held: Watermarks) -> Iterable[int]:
        """The partitions of which nothing may be missing here."""
        return range(held.partitions or 0) if self._of is None else (self._of,)

    def _void(self) -> None:
        self._epoch += 1
        self._watermark = None
        self._why = REDIS_CHANGED
        self._on_void()


async def keep_clock(client: AsyncMongoClient[Any], clock: PrimaryClock, health: Health) -> NoReturn:
    """Ask the primary for its time again and again, until cancelled."""

    async def look() -> float:
        try:
            with pymongo.timeout(2 * CLOCK_SECONDS):
                await clock.sample(client)
            _note(health, "mongodb", None)
        except PyMongoError as error:
            _note(health, "mongodb", type(error).__name__)
        estimate = clock.now_ms()
        if estimate is not None:
            telemetry.CLOCK_ERROR.set(estimate[1] / 1000)
        return CLOCK_SECONDS

    await forever(look)


def _note(health: Health, server: str, wrong: str | None) -> None:
    before = health.parts.get(server)
    if wrong is None:
        health.ok(server)
        if before is not None:
            log.info("server_answers", server=server)
    else:
        health.wrong(server, wrong)
        if before is None:
            log.warning("server_away", server=server, reason=wrong)


def _why_unknown(held: Watermarks, partitions: Iterable[int]) -> str | None:
    if not held.partitions:
        return "no consumer has stored a watermark in this Redis"
    for partition in partitions:
        mark = held.by_partition.get(partition)
        if mark is None:
            return f"partition {partition} has no watermark"
        if mark.identity != held.identity:
            return f"the watermark of partition {partition} is of another Redis"
    return None
