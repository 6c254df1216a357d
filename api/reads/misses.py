"""From a miss to an answer: single flight in the process, lease across processes, one snapshot read, fill.

    miss -> somebody here is already on it: wait for that flight
         -> lease -> granted: read MongoDB at >= applied, answer everybody, then fill
                  -> the entry is there meanwhile: answer
                  -> another process fills: ask again, less and less often; after `wait_ms` read MongoDB, fill nothing

`applied` and the floor are fetched after the leases were granted; without either of them the value is served and
not cached. Nor is what was read from something of which no changes are told (`neverstale.mongodb.kinds`).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from neverstale.api.freshness.bound import Bounds
from neverstale.api.reads.ask import Ask, fail_all
from neverstale.api.reads.bulkhead import LaneName, Loads
from neverstale.api.reads.bypass import Direct
from neverstale.api.reads.fills import Fills
from neverstale.api.reads.source import CachedSource, has_something
from neverstale.errors import Outage, Overloaded, Refused
from neverstale.mongodb.loader import Snapshot, TooLarge
from neverstale.redis.cache import Cache, Fill, Granted, Leases, Wait
from neverstale.redis.entry_ttl import ttl_ms
from neverstale.role import telemetry
from neverstale.role.tasks import at_once
from neverstale.settings import Api
from neverstale.versions import Version

FIRST_PAUSE: Final = 0.005
"""Seconds, for which the lease of another process is waited for before it is asked again."""
LONGEST_PAUSE: Final = 0.08


@dataclass(slots=True, eq=False)
class Flight:
    """One key on its way into the cache, and everybody who waits for it."""

    first: Ask
    asks: list[Ask]
    """None: the first was content with a stale body, and what is read is for those who come after."""
    landed: Snapshot | None = None
    """What was read; from now on it is being filled."""

    @property
    def entry_key(self) -> bytes:
        return self.first.entry_key


@dataclass(frozen=True, slots=True)
class LeasePatience:
    """How long others' leases are waited for."""

    until: float
    pause: float = FIRST_PAUSE

    def less(self) -> "LeasePatience":
        return LeasePatience(self.until, min(2 * self.pause, LONGEST_PAUSE))


class Misses:
    """Answers what the cache could not answer. Cancel nothing here: a lease would stay, and others would wait."""

    def __init__(
        self,
        cache: Cache,
        loads: Loads,
        direct: Direct,
        bounds: Bounds,
        settings: Api,
        random: Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._loads = loads
        self._direct = direct
        self._bounds = bounds
        self._fills = Fills(cache)
        self._lease_ms = settings.lease_ms
        self._wait_seconds = settings.wait_ms / 1000
        self._random = random
        self._clock = clock
        self._flights: dict[bytes, Flight] = {}

    async def fetch(self, source: CachedSource, asks: Sequence[Ask], floor: Version) -> None:
        """Answers all asks of one source; those that join a flight are answered when it lands."""
        if (refusal := self._loads.refuses(source)) is not None:
            # Leases would only make others wait for fills that cannot come.
            unserved = [ask for ask in asks if not self._serve_stale(source, ask)]
            fail_all(unserved, refusal, self._bounds)
            return
        if self._loads.crowded(len(asks)):
            asks = self._shed_unknown(asks)
        flights: list[Flight] = []
        late: list[Ask] = []
        for ask in asks:
            flight = self._flights.get(ask.entry_key)
            # Who has seen what has landed must not be told of the past again.
            is_served = (flight is None or flight.landed is None) and self._serve_stale(source, ask)
            if flight is None:
                flight = self._flights[ask.entry_key] = Flight(ask, [] if is_served else [ask])
                flights.append(flight)
                continue
            if is_served:
                continue
            ask.collapsed = True
            if flight.landed is None:
                flight.asks.append(ask)
            elif not ask.take_snapshot(flight.landed, self._bounds.bound):
                late.append(ask)
        await at_once(
            self._fly(source, flights, floor) if flights else None, self._direct.read(late) if late else None
        )

    def _shed_unknown(self, asks: Sequence[Ask]) -> Sequence[Ask]:
        """Refuses those that would be refused later, when they hold leases. The others remain."""
        doorkeeper = self._loads.doorkeeper
        taken: list[Ask] = []
        for ask in asks:
            if ask.holds_document or ask.entry_key in self._flights or doorkeeper.knows(ask.entry_key):
                taken.append(ask)
            else:
                ask.fail(Overloaded("mongodb"), self._bounds)
        telemetry.SHED.labels("mongodb").inc(len(asks) - len(taken))
        return taken

    def _serve_stale(self, source: CachedSource, ask: Ask) -> bool:
        return ask.settle_while_revalidating(source.stale_while_revalidate_seconds, self._bounds)

    async def _fly(self, source: CachedSource, flights: Sequence[Flight], floor: Version) -> None:
        try:
            await self._lease(source, flights, floor, LeasePatience(self._clock() + self._wait_seconds))
        except BaseException as error:
            fail_all(self._close(flights), error, self._bounds)
            raise

    async def _lease(
        self, source: CachedSource, flights: Sequence[Flight], floor: Version, patience: LeasePatience
    ) -> None:
        keys = [flight.entry_key for flight in flights]
        try:
            leases = await self._cache.lease(source.collection, keys, floor, self._lease_ms, source.shows)
        except Outage:
            # Redis gives no leases: no memory, read-only, or gone since the read. The answer needs none.
            await self._direct.read(self._close(flights))
            return
        granted: list[tuple[Flight, Granted]] = []
        waiting: list[Flight] = []
        unmet: list[Ask] = []
        for flight, answer in zip(flights, leases.answers, strict=True):
            if isinstance(answer, Granted):
                granted.append((flight, answer))
            elif isinstance(answer, Wait):
                waiting.append(flight)
            else:
                current = leases.floor is not None and answer.version >= max(floor, leases.floor)
                asks = self._close([flight])
                unmet += [ask for ask in asks if not current or not ask.take_entry(answer, self._bounds.bound)]
        known, unknown = self._by_knowledge(granted)
        await at_once(
            self._load(source, known, leases, floor, "known") if known else None,
            self._load(source, unknown, leases, floor, "unknown") if unknown else None,
            self._wait(source, waiting, floor, patience) if waiting else None,
            self._direct.read(unmet) if unmet else None,
        )

    def _by_knowledge(
        self, granted: Sequence[tuple[Flight, Granted]]
    ) -> tuple[list[tuple[Flight, Granted]], list[tuple[Flight, Granted]]]:
        """Those of which there was a document when somebody last looked, and the others."""
        known: list[tuple[Flight, Granted]] = []
        unknown: list[tuple[Flight, Granted]] = []
        for flight, lease in granted:
            held = lease.previous is not None and lease.previous.body is not None
            met = held or self._loads.doorkeeper.knows(flight.entry_key)
            (known if met else unknown).append((flight, lease))
        return known, unknown

    async def _wait(
        self, source: CachedSource, flights: Sequence[Flight], floor: Version, patience: LeasePatience
    ) -> None:
        """Another process fills. Ask again for all, at a moment of our own, until patience ends."""
        self._close([flight for flight in flights if not flight.asks])
        flights = [flight for flight in flights if flight.asks]
        if not flights:
            return
        if self._clock() >= patience.until or self._loads.refuses(source) is not None:
            await self._direct.read(self._close(flights))
            return
        await asyncio.sleep(patience.pause * self._random.uniform(0.5, 1.5))
        for flight in flights:
            flight.first.collapsed = True
        await self._lease(source, flights, floor, patience.less())

    async def _load(
        self,
        source: CachedSource,
        granted: Sequence[tuple[Flight, Granted]],
        leases: Leases,
        floor: Version,
        lane: LaneName,
    ) -> None:
        flights = [flight for flight, _ in granted]
        try:
            snapshot = await self._loads.load(
                source, [flight.first.key for flight in flights], self._at_least(granted, leases, floor), lane
            )
        except TooLarge as error:
            await self._load_apart(source, granted, leases, floor, error, lane)
            return
        except Exception as error:
            if len(flights) > 1 and isinstance(error, Refused) and not error.lasts:
                # It belongs to one of the keys: the others shall not share it.
                half = len(flights) // 2
                await self._load(source, granted[:half], leases, floor, lane)
                await self._load(source, granted[half:], leases, floor, lane)
                return
            fail_all(self._close(flights), error, self._bounds)
            # A stale body stays: it may be all that there is for a while.
            await self._fills.give_back([flight.entry_key for flight, lease in granted if not _holds_body(lease)])
            return
        unmet: list[Ask] = []
        vouched = leases.applied is not None and leases.floor is not None and snapshot.kind.told
        for flight in flights:
            flight.landed = snapshot
            flight.first.vouched = vouched
            if has_something(source, snapshot, flight.first.canonical):
                self._loads.doorkeeper.met(flight.entry_key)
            unmet += [ask for ask in flight.asks if not ask.take_snapshot(snapshot, self._bounds.bound)]
        await at_once(self._fill(source, flights, leases, snapshot), self._direct.read(unmet) if unmet else None)

    async def _load_apart(
        self,
        source: CachedSource,
        granted: Sequence[tuple[Flight, Granted]],
        leases: Leases,
        floor: Version,
        error: TooLarge,
        lane: LaneName,
    ) -> None:
        """One half after the other; but who asks for many asks again, now that it is known how large they are."""
        for flight, _ in granted:
            for ask in flight.asks:
                if ask.one_of_many:
                    ask.refuse(error)
        wanted = [(flight, lease) for flight, lease in granted if any(not ask.done() for ask in flight.asks)]
        others = [flight for flight, _ in granted if flight not in [one for one, _ in wanted]]
        self._close(others)
        await self._fills.give_back([flight.entry_key for flight in others])
        half = max(len(wanted) // 2, 1)
        for some in (wanted[:half], wanted[half:]):
            if some:
                await self._load(source, some, leases, floor, lane)

    def _at_least(self, granted: Sequence[tuple[Flight, Granted]], leases: Leases, floor: Version) -> Version:
        """The least version that may be cached. Callers' own demands do not count: they may be nonsense."""
        return max(
            floor,
            leases.applied or 0,
            leases.floor or 0,
            self._bounds.newest,
            *(lease.previous.version for _, lease in granted if lease.previous is not None),
        )

    async def _fill(
        self, source: CachedSource, flights: Sequence[Flight], leases: Leases, snapshot: Snapshot
    ) -> None:
        try:
            if leases.applied is None or leases.floor is None or not snapshot.kind.told:
                await self._fills.give_back([flight.entry_key for flight in flights])
                return
            fills, withheld, now_ms = [], [], time.time() * 1000
            for flight in flights:
                key = flight.first.canonical
                body = snapshot.bodies.get(key)
                absent = not has_something(source, snapshot, key)
                if key in snapshot.refused or (absent and not self._loads.doorkeeper.admits(flight.entry_key)):
                    withheld.append(flight.entry_key)
                    continue
                life_ms = ttl_ms(source, body, snapshot.expiries.get(key), now_ms, self._random.random())
                etag = snapshot.etag(key)
                fills.append(
                    Fill(flight.entry_key, leases.token, snapshot.version, body, life_ms, source.shows, etag)
                )
            await at_once(self._fills.offer(fills), self._fills.give_back(withheld) if withheld else None)
        finally:
            self._close(flights)

    def _close(self, flights: Sequence[Flight]) -> list[Ask]:
        """Lets nobody join any more; returns who waits still."""
        for flight in flights:
            if self._flights.get(flight.entry_key) is flight:
                del self._flights[flight.entry_key]
        return [ask for flight in flights for ask in flight.asks if not ask.done()]


def _holds_body(lease: Granted) -> bool:
    return lease.previous is not None and (lease.previous.body is not None or lease.previous.body_is_absence)
