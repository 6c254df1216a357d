"""Batches that were read and published but not yet acknowledged, in order, and never more than so many."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from typing import NoReturn

from neverstale.role import telemetry
from streams.checkpoint import Position
from streams.publisher import Receipt


@dataclass(frozen=True, slots=True)
class SentBatch:
    """One batch on its way to Kafka."""

    receipt: Receipt
    position: Position
    """Behind the batch."""
    wall_ms: int | None
    """Of its newest change; `None` if it holds none."""
    records: Mapping[str, int]
    """Kind -> how many."""


class Acks:
    """`add` flights in order; `run` calls `reached` for each, in order, when all up to it is acknowledged."""

    def __init__(self, most: int, reached: Callable[[Position], None]) -> None:
        self._flights: asyncio.Queue[SentBatch] = asyncio.Queue(most)
        self._reached = reached

    async def add(self, flight: SentBatch) -> None:
        """Waits while too many are on their way: that is what keeps memory bounded when Kafka is away."""
        await self._flights.put(flight)

    async def landed(self) -> None:
        """Wait until every added flight is acknowledged."""
        await self._flights.join()

    async def run(self) -> NoReturn:
        while True:
            flight = await self._flights.get()
            await flight.receipt.acknowledged
            self._reached(flight.position)
            self._flights.task_done()
            for kind, count in flight.records.items():
                telemetry.RECORDS_PUBLISHED.labels(kind).inc(count)
            if flight.wall_ms is not None:
                telemetry.CAPTURE_LAG.observe(max(0.0, time() - flight.wall_ms / 1000))
