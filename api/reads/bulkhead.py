"""The bulkhead in front of MongoDB: few reads at once, a short queue, and a deadline for waiting in it.

Keys that are not known to have a document may take only a share of the places and of the queue
(`neverstale.api.reads.unknown_keys`): whoever makes up ids competes with others who ask for unknown ones, never with
readers of what exists. Another share is for reads that only a request's demands make necessary, for anybody
can demand as much as he likes.

Reads that have to wait are gathered: a free place takes all waiting keys of one source in one `$in` snapshot. So
the more a burst of misses exceeds what MongoDB can do, the fewer and larger its reads become.
"""

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from neverstale.api.freshness.proofs import Proofs
from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.refused_sources import Refusing
from neverstale.api.reads.source import Source
from neverstale.api.reads.unknown_keys import Doorkeeper
from neverstale.api.reads.weights import Weight
from neverstale.errors import NeverstaleError, Outage, Overloaded, Refused
from neverstale.mongodb.loader import Loader, Snapshot, TooLarge, VersionInFuture
from neverstale.mongodb.refusals import ours, row_of
from neverstale.role import telemetry
from neverstale.role.service import Health
from neverstale.role.tasks import Tasks
from neverstale.settings import Api
from neverstale.versions import Version

log = telemetry.logger(__name__)

HEAVY_BYTES = 4 << 20
HEAVY_READS = 1
"""So many reads that are expected to bring more than that are under way at once: each is in memory as BSON and as
JSON."""


LaneName = Literal["known", "unknown", "demanded"]
"""Reads of keys that are known to have documents · of others · of the former, because a request demands it."""


@dataclass(slots=True, eq=False)
class WaitingRead:
    """A read that waits, or is under way."""

    source: Source
    keys: Sequence[Any]
    at_least: Version
    """May be raised until it is issued."""
    named: bool
    """The version comes from a caller."""
    lane: "_Lane"
    number: int
    """Later ones have higher ones."""
    issued: bool = False
    """MongoDB has been asked: what it answers may be older than whoever comes now."""
    answer: asyncio.Future[Snapshot] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    deadline: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class _Lane:
    """What reads of one kind may take of the whole."""

    places: int
    """Free ones."""
    room: int
    """Keys that may still come to wait."""
    queue: deque[WaitingRead] = field(default_factory=deque)


class Loads:
    """Snapshot reads of all sources of one process."""

    def __init__(
        self,
        loader: Loader,
        settings: Api,
        breaker: Breaker,
        tasks: Tasks,
        proofs: Proofs,
        refusing: Refusing | None = None,
    ) -> None:
        self.proofs = proofs
        self._loader = loader
        self._refusing = refusing or Refusing(Health())
        self._breaker = breaker
        self._tasks = tasks
        self.doorkeeper = Doorkeeper(settings)
        places, room = settings.mongodb_concurrency, settings.mongodb_queue
        self._whole = _Lane(places, room)
        """Reads wait in one of the others. Those of known keys may take all of it."""
        self._known = _Lane(places, room)
        self._unknown = _share(self._known, settings.unknown_percent)
        self._demanded = _share(self._known, settings.demanded_percent) if settings.demands != "all" else self._known
        self._lanes = {"known": self._known, "unknown": self._unknown, "demanded": self._demanded}
        self._deadline_seconds = settings.queue_deadline_ms / 1000
        self._numbers = itertools.count()
        self._weights: defaultdict[str, Weight] = defaultdict(Weight)
        self._heavy = asyncio.Semaphore(HEAVY_READS)

    def refuses(self, source: Source) -> NeverstaleError | None:
        """Why a read would fail at once: MongoDB is known to be away, or to refuse this source."""
        if self._breaker.refuses:
            return Outage("mongodb", "the breaker is open")
        return self._refusing.of(source.name)

    def weight(self, source: Source) -> Weight:
        """How large its answers are."""
        return self._weights[source.name]

    async def load(
        self, source: Source, keys: Sequence[Any], at_least: Version, lane: LaneName = "known"
    ) -> Snapshot:
        """Reads `keys` at one version >= `at_least`; the snapshot may hold documents that others asked for.

        While MongoDB is well, the snapshot can be shown to be less than half a second old
        (`neverstale.api.freshness.proofs`). Raises `Outage`, `Overloaded`, `Refused`, and what the source raises.
        """
        return await self.begin(source, keys, at_least, lane=lane).answer

    def begin(
        self,
        source: Source,
        keys: Sequence[Any],
        at_least: Version,
        *,
        named: bool = False,
        lane: LaneName = "known",
    ) -> WaitingRead:
        """Begins the same read, and does not wait for its `answer`; raises `Overloaded`.

        `named`: `at_least` comes from a caller and may be nonsense, so no read of ours may depend on it. Then the
        answer may be `VersionInFuture`, too.
        """
        read = WaitingRead(source, keys, at_least, named, self._lanes[lane], next(self._numbers))
        if self._whole.places and read.lane.places:
            self._occupy(read.lane, 1)
            self._tasks.start(self._work(read), f"load-{source.name}")
        else:
            self._enqueue(read)
        return read

    def crowded(self, keys: int) -> bool:
        """Whether a read of so many keys that nobody knows would be refused."""
        if self._whole.places and self._unknown.places:
            return False
        return keys > min(self._whole.room, self._unknown.room)

    def _enqueue(self, read: WaitingRead) -> None:
        count = len(read.keys)
        if count > min(self._whole.room, read.lane.room):
            telemetry.SHED.labels("mongodb").inc()
            raise Overloaded("mongodb")
        self._wait(read.lane, count)
        read.lane.queue.append(read)
        read.deadline = asyncio.get_running_loop().call_later(self._deadline_seconds, self._expire, read)

    def _expire(self, read: WaitingRead) -> None:
        read.lane.queue.remove(read)
        self._wait(read.lane, -len(read.keys))
        telemetry.SHED.labels("mongodb").inc()
        _fail(read, Overloaded("mongodb"))

    async def _work(self, first: WaitingRead) -> None:
        """Holds a place until nothing waits."""
        reads = [first]
        while reads:
            lane = reads[0].lane
            try:
                await self._read(reads)
            finally:
                self._occupy(lane, -1)
            if reads := self._next():
                self._occupy(reads[0].lane, 1)

    def _occupy(self, lane: _Lane, places: int) -> None:
        for taken in (self._whole, lane):
            taken.places -= places

    def _wait(self, lane: _Lane, keys: int) -> None:
        for taken in (self._whole, lane):
            taken.room -= keys

    def _next(self) -> list[WaitingRead]:
        """The read that waits longest, with those that can share its snapshot."""
        lanes = [lane for lane in self._lanes.values() if lane.queue and lane.places]
        if not lanes:
            return []
        lane = min(lanes, key=lambda lane: lane.queue[0].number)
        first = lane.queue.popleft()
        most = min(first.source.keys_a_read, self.weight(first.source).room(HEAVY_BYTES))
        taken, room = [first], most - len(first.keys)
        for read in list(lane.queue):
            if read.source is first.source and read.named == first.named and len(read.keys) <= room:
                lane.queue.remove(read)
                taken.append(read)
                room -= len(read.keys)
        for read in taken:
            self._wait(lane, -len(read.keys))
            if read.deadline is not None:
                read.deadline.cancel()
        return taken

    async def _read(self, reads: Sequence[WaitingRead]) -> None:
        try:
            snapshot = await self._ask(reads)
        except VersionInFuture as error:
            await self._without_nonsense(reads, error)
        except Exception as error:
            if len(reads) > 1 and isinstance(error, Refused) and not error.lasts:
                # It belongs to one of them: the others shall not share it.
                half = len(reads) // 2
                await self._read(reads[:half])
                await self._read(reads[half:])
                return
            for read in reads:
                _fail(read, error)
        except asyncio.CancelledError:
            for read in reads:
                read.answer.cancel()
            raise
        else:
            for read in reads:
                if not read.answer.done():
                    read.answer.set_result(snapshot)

    async def _without_nonsense(self, reads: Sequence[WaitingRead], error: VersionInFuture) -> None:
        """MongoDB refused the highest version of some, and told how far it is: read the others again, at once."""
        good = [read for read in reads if read.at_least <= error.reached]
        for read in reads:
            if read not in good:
                _fail(read, error)
        if good:
            await self._read(good)

    async def _ask(self, reads: Sequence[WaitingRead]) -> Snapshot:
        source = reads[0].source
        if (refusal := self._refusing.probe(source.name)) is not None:
            raise refusal
        if not self._breaker.allows():
            raise Outage("mongodb", "the breaker is open")
        await self.proofs.ready()
        for read in reads:
            read.issued = True
        keys = _distinct(key for read in reads for key in read.keys)
        at_least = max(self.proofs.reached, *(read.at_least for read in reads))
        try:
            snapshot = await self._weighed(reads, keys, at_least)
        except Exception as error:
            raise self._judged(error, reads[0]) from error
        self._breaker.succeeded()
        self._refusing.answered(source.name)
        return snapshot

    def _judged(self, error: Exception, read: WaitingRead) -> NeverstaleError:
        """The error of ours, and what it says of the server, the source and the read."""
        if not isinstance(error, NeverstaleError):
            log.error("load_failed", resource=read.source.name, exc_info=error)
        found = ours(error, "keys")
        match found:
            case Outage():
                self._breaker.failed()
            case Refused():
                if row_of(found.code, "keys") is not None:
                    self._breaker.succeeded()  # an answer; of what nobody knows, nothing is learnt of the server
                self._refusing.note(read.source.name, found)
            case _:
                self._breaker.succeeded()
        if isinstance(found, VersionInFuture) and not read.named:
            return Outage("mongodb", "it has not reached a version that was applied")
        return found

    async def _weighed(self, reads: Sequence[WaitingRead], keys: list[Any], at_least: Version) -> Snapshot:
        weight = self.weight(reads[0].source)
        try:
            if weight.of_one() * len(keys) <= HEAVY_BYTES:
                snapshot = await self._load(reads, keys, at_least)
            else:
                async with self._heavy:
                    snapshot = await self._load(reads, keys, at_least)
        except TooLarge as error:
            weight.saw(error.size, error.count)
            raise
        weight.saw(sum(map(len, snapshot.bodies.values())), len(snapshot.bodies))
        return snapshot

    async def _load(self, reads: Sequence[WaitingRead], keys: list[Any], at_least: Version) -> Snapshot:
        source = reads[0].source
        try:
            return await source.load(self._loader, keys, at_least)
        except VersionInFuture as error:
            named = max((read.at_least for read in reads if read.named), default=0)
            if named > error.reached:
                raise
        # MongoDB knows better than what Redis held. What is true of it was acknowledged before now.
        return await source.load(self._loader, keys, max(await self._loader.now(), named))


def _share(lane: _Lane, percent: int) -> _Lane:
    return _Lane(max(lane.places * percent // 100, 1), max(lane.room * percent // 100, 1))


def _distinct(keys: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(keys))


def _fail(read: WaitingRead, error: Exception) -> None:
    if not read.answer.done():
        read.answer.set_exception(error)
