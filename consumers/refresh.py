"""Refreshing: filling from the consumer's side what an invalidation has just made stale.

The invalidation hands over a lease, so this is an ordinary fill. It is a favour: whatever is dropped here, for lack
of room or because a server is away, is a miss for some reader later.
"""

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import random
from typing import Final, Protocol

from neverstale.catalog import Resource
from neverstale.errors import Outage
from neverstale.keys import value_of
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.redis.cache import Fill
from neverstale.redis.entry_ttl import ttl_ms
from neverstale.role import telemetry
from neverstale.role.log_repetitions import Seldom
from neverstale.role.retry import forever
from neverstale.role.tasks import start
from neverstale.settings import ConsumerSettings
from neverstale.versions import Version

log = telemetry.logger(__name__)

KEYS_A_LOAD: Final = 200
ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class HeldLease:
    """The lease of one stale entry."""

    key: bytes
    canonical: str
    token: bytes
    at_least: Version
    """The highest version of the batch that made it stale. `applied` had been raised to it before the lease was
    given, and whatever is applied later marks the entry itself, which refuses a fill that is older. So a refresh
    need not fetch `applied`, as a reader must, who has no mark to rely on while its entry is missing."""


class Fillable(Protocol):
    """Where entries lie, as `neverstale.redis.cache.Cache` fills and deletes them."""

    async def fill(self, fills: Sequence[Fill]) -> list[str]: ...

    async def delete(self, keys: Sequence[bytes]) -> None: ...


class Refresher:
    """A bounded queue and a few workers. Offering never waits."""

    def __init__(
        self, cache: Fillable, loader: Loader, settings: ConsumerSettings, chance: Callable[[], float] = random
    ) -> None:
        self._cache = cache
        self._loader = loader
        self._workers = settings.refresh_concurrency
        self._room = settings.refresh_queue
        self._chance = chance
        self._resources: dict[str, Resource] = {}
        self._waiting: defaultdict[str, deque[HeldLease]] = defaultdict(deque)
        self._turns: asyncio.Queue[str] = asyncio.Queue()
        """Resources for which something waits, each once: what comes while the workers are busy is read together."""
        self._complaint = Seldom()

    def offer(self, resource: Resource, leases: Sequence[HeldLease]) -> None:
        """Ask for refreshes of one resource; those for which there is no room are dropped."""
        taken = leases[: self._room]
        self._room -= len(taken)
        _count("dropped", len(leases) - len(taken))
        waiting = self._waiting[resource.name]
        if taken and not waiting:
            self._resources[resource.name] = resource
            self._turns.put_nowait(resource.name)
        waiting.extend(taken)

    async def work(self) -> None:
        """Refresh what was offered, for ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._workers):
                start(group, forever(self._refresh_next), f"refresh-{number}")

    async def _refresh_next(self) -> None:
        name = await self._turns.get()
        await self._refresh(self._resources[name], self._take(name))

    def _take(self, name: str) -> list[HeldLease]:
        waiting = self._waiting[name]
        taken = [waiting.popleft() for _ in range(min(KEYS_A_LOAD, len(waiting)))]
        self._room += len(taken)
        if waiting:
            self._turns.put_nowait(name)
        return taken

    async def _refresh(self, resource: Resource, leases: list[HeldLease]) -> None:
        try:
            for _ in range(ATTEMPTS):
                # Refused for its version: it changed again after the read. The lease is still ours, and until it
                # runs out nobody else may fill, so another read is the shortest way to a fresh entry.
                leases = await self._load_and_fill(resource, leases)
                if not leases:
                    return
            _count("version", len(leases))
        except Outage as outage:
            _count(outage.server, len(leases))
        except Exception as error:
            _count("failed", len(leases))
            if times := self._complaint.due():
                log.warning("refresh_failed", resource=resource.name, times=times, exc_info=error)

    async def _load_and_fill(self, resource: Resource, leases: list[HeldLease]) -> list[HeldLease]:
        """Returns the leases that were not filled because their documents have changed since."""
        keys = [value_of(held.canonical) for held in leases]
        snapshot = await self._loader.load(resource, keys, max(held.at_least for held in leases))
        if not snapshot.kind.told:
            await self._cache.delete([held.key for held in leases])
            _count("untold", len(leases))
            return []
        fills = [self._fill(resource, held, snapshot) for held in leases]
        if expired := [fill.key for fill in fills if fill.ttl_ms <= 0]:
            await self._cache.delete(expired)
            _count("expired", len(expired))
            leases = [held for held, fill in zip(leases, fills, strict=True) if fill.ttl_ms > 0]
            fills = [fill for fill in fills if fill.ttl_ms > 0]
        if not fills:
            return []
        results = await self._cache.fill(fills)
        for result, times in Counter(results).items():
            if result != "version":
                _count(result, times)
        return [held for held, result in zip(leases, results, strict=True) if result == "version"]

    def _fill(self, resource: Resource, held: HeldLease, snapshot: Snapshot) -> Fill:
        body = snapshot.bodies.get(held.canonical)
        expires_ms = snapshot.expiries.get(held.canonical)
        life_ms = ttl_ms(resource, body, expires_ms, time.time() * 1000, self._chance())
        return Fill(held.key, held.token, snapshot.version, body, life_ms, resource.shows)


def _count(result: str, times: int) -> None:
    if times:
        telemetry.REFRESHES.labels(result).inc(times)
