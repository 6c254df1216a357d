"""The truth: what MongoDB holds, now and at versions of the last minutes, within a budget of reads."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from pymongo import AsyncMongoClient

from neverstale.api.reads.source import KEYS_A_READ, Source
from neverstale.errors import NeverstaleError
from neverstale.mongodb.kinds import Kinds
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.ops.auditor.judging.timeline import Timeline
from neverstale.role import telemetry
from neverstale.versions import Version

BURST_SECONDS: Final = 2.0


class NoPast(NeverstaleError):
    """There is no collection now, and before version 7 MongoDB then says of any moment that there was nothing."""


class ReadBudget:
    """So many a second, in the mean. What was spent beyond is waited for."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._left = per_second * BURST_SECONDS
        self._at = time.monotonic()

    async def spend(self, count: float) -> None:
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self.per_second, self.per_second * BURST_SECONDS) - count
        self._at = now
        if self._left < 0:
            await asyncio.sleep(-self._left / self.per_second)


class Truth:
    """Raises like `Loader.load`."""

    def __init__(
        self,
        client: AsyncMongoClient[dict[str, Any]],
        database: str,
        timeout_ms: int,
        kinds: Kinds,
        timeline: Timeline,
        allowance: ReadBudget,
    ) -> None:
        self._client = client
        self._database = database
        self._timeout_ms = timeout_ms
        self._kinds = kinds
        self._timeline = timeline
        self._allowance = allowance
        self._now = Loader(client, database, timeout_ms, kinds)

    async def now(self, source: Source, keys: Sequence[Any], at_least: Version) -> Snapshot:
        """The state of some keys at one version that MongoDB has just reached."""
        await self._pay(source, keys)
        snapshot = await source.load(self._now, keys, at_least)
        self._timeline.saw(snapshot.version, time.monotonic())
        return snapshot

    async def at(self, source: Source, keys: Sequence[Any], version: Version) -> Snapshot:
        """The state of some keys at exactly this version."""
        await self._pay(source, keys)
        loader = Loader(self._client, self._database, self._timeout_ms, self._kinds, at=version)
        snapshot = await source.load(loader, keys, 0)
        if snapshot.version != version:
            raise NoPast
        return snapshot

    async def _pay(self, source: Source, keys: Sequence[Any]) -> None:
        reads = len(keys) if source.keys_a_read < KEYS_A_READ else 1
        telemetry.AUDIT_MONGODB_READS.inc(reads)
        await self._allowance.spend(reads)
