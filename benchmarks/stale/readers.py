"""Who writes, who reads, and what is noted about the answers."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import orjson

from benchmarks.stale.truth import GRACE_SECONDS, Truth
from neverstale.ops.demo.flights.replay import Happening
from neverstale.ops.demo.flights.writers import Writers
from neverstale.ops.http_client import Connection

READERS: Final = 8
READS_PER_SECOND: Final = 200.0
LOOKED_AT: Final = 800
"""Flights, the first of the week, for which readers ask: more than a phase comes to write."""
KEYS_A_REQUEST: Final = 100
PATIENCE_SECONDS: Final = 5.0
SEED: Final = 7


@dataclass(slots=True)
class Phase:
    """What came of one."""

    name: str
    reads: int = 0
    failed: int = 0
    stale: int = 0
    unsaid: int = 0
    """Stale ones that did not say so: no bound, or a tighter one."""
    stalest_ms: float = 0.0
    behind: int = 0
    """Of what was written, what was still shown as it had been."""
    written: int = 0
    corrected_ms: list[float] = field(default_factory=list)
    """From acknowledged to corrected, ascending."""


class Board(Writers):
    """The demo's writers. Whoever must do something about its writes is told of each step."""

    followed: Callable[[Sequence[Happening]], Awaitable[None]] | None = None

    async def write(self, step: Sequence[Happening]) -> int:
        changed = await super().write(step)
        if self.followed is not None:
            await self.followed(step)
        return changed

    def key(self, place: int) -> str:
        return self._week.flights[place].key

    @property
    def flights(self) -> Any:
        """The collection."""
        return self._flights


class Readers:
    """They ask at their pace, over HTTP, and note how late each answer is."""

    def __init__(self, url: str, truth: Truth, board: Board) -> None:
        self._url = url
        self._truth = truth
        self._board = board
        self._idle: list[Connection] = []

    async def read(self, found: Phase, stop: asyncio.Event, number: int) -> None:
        dice, due = random.Random(SEED + number), time.monotonic()
        while not stop.is_set():
            due = max(due, time.monotonic() - 1) + READERS / READS_PER_SECOND
            await asyncio.sleep(max(due - time.monotonic(), 0))
            try:
                late, said = await self.late(self._truth.pick(dice, LOOKED_AT))
            except (OSError, TimeoutError):
                found.failed += 1
                continue
            found.reads += 1
            found.stalest_ms = max(found.stalest_ms, 1000 * late)
            if late > GRACE_SECONDS:
                found.stale += 1
                found.unsaid += late > said

    async def late(self, place: int) -> tuple[float, float]:
        """How long what is answered had been replaced, and how old it said that it could be; in seconds."""
        connection = await self._connection()
        asked = time.monotonic()
        answer = await connection.get(f"/v1/flights/{quote(self._board.key(place), safe='')}", PATIENCE_SECONDS)
        if connection.usable:
            self._idle.append(connection)
        if answer.status not in (200, 404):
            raise OSError(f"it answered {answer.status}")
        revision = revision_of(answer.body) if answer.status == 200 else None
        bound = answer.headers.get("neverstale-bound", "0")
        return self._truth.late(place, revision, asked), float("inf") if bound == "unknown" else float(bound)

    async def many(self, places: Sequence[int]) -> None:
        """Have them cached: of ours, which answers many keys at once."""
        connection = await self._connection()
        keys = ",".join(quote(self._board.key(place), safe="") for place in places)
        answer = await connection.get(f"/v1/flights?keys={keys}", PATIENCE_SECONDS)
        if answer.status != 200:
            raise OSError(f"it answered {answer.status}")
        self._idle.append(connection)

    async def _connection(self) -> Connection:
        while self._idle:
            if (connection := self._idle.pop()).usable:
                return connection
        return await Connection.open(self._url)


def revision_of(body: bytes) -> int:
    """Some connectors spell numbers as extended JSON."""
    told = orjson.loads(body)["rev"]
    return int(*told.values()) if isinstance(told, dict) else int(told)
