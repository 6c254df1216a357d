"""Batches that were read and published but not yet acknowledged, in order, and never more than so many."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from typing import NoReturn

from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.streams.checkpoint import Position
from neverstale.streams.publisher import Receipt


@dataclass(frozen=True, slots=True)
class SentBatch:
    """One batch on its way to Kafka."""

    receipt: Receipt
    position: Position
    """The position behind the batch."""
    wall_ms: int | None
    """Wall time of its newest change; `None` if it holds none."""
    records: Mapping[str, int]
    """Kind -> how many."""


class Acks:
    """Takes batches that were sent, in order; `run` calls `reached` for each when all up to it is acknowledged."""

    def __init__(self, most: int, reached: Callable[[Position], None]) -> None:
        self._sent: asyncio.Queue[SentBatch] = asyncio.Queue(most)
        self._reached = reached

    async def add(self, sent: SentBatch) -> None:
        """Wait while too many are on their way: that is what keeps memory bounded when Kafka is away."""
        await self._sent.put(sent)

    async def landed(self) -> None:
        """Wait until every batch that was added is acknowledged."""
        await self._sent.join()

    async def run(self) -> NoReturn:
        """Say how far Kafka has everything, until cancelled."""
        await forever(self._land_next)

    async def _land_next(self) -> None:
        sent = await self._sent.get()
        await sent.receipt.acknowledged
        self._reached(sent.position)
        self._sent.task_done()
        for kind, count in sent.records.items():
            telemetry.RECORDS_PUBLISHED.labels(kind).inc(count)
        if sent.wall_ms is not None:
            telemetry.CAPTURE_LAG.observe(max(0.0, time() - sent.wall_ms / 1000))
