"""Who writes which flight when, and what is noted about it for the oracle."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pymongo
from pymongo.errors import PyMongoError

from neverstale.ops.demo.flights.board import Document
from neverstale.versions import Version, from_timestamp

PATIENCE_SECONDS: Final = 15.0
"""A writer gives up on a write after this; its outcome is then unknown."""


@dataclass(slots=True)
class Slot:
    """One flight as its writers know it."""

    place: int
    document: Document
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    doubtful: bool = False
    """A write's outcome is unknown; the next one must write the whole document."""


@dataclass(frozen=True, slots=True)
class BoardChange:
    """One flight's next revision."""

    slot: Slot
    revision: int
    values: Document

    @property
    def filter(self) -> Document:
        # Should a write that was given up arrive after all, it must not undo a later one.
        return {"_id": self.slot.document["_id"], "rev": {"$lt": self.revision}}

    @property
    def operators(self) -> Document:
        return {"$set": self.values}


class Noted(Protocol):
    """Who is told of every write; `neverstale.ops.truth.oracle.Writes` keeps it all."""

    def begin(self, key: int, at: float, *, removal: bool = False) -> int:
        """The key's next revision."""

    def acknowledge(self, key: int, revision: int, at: float, version: Version) -> None: ...


class Turns:
    """Everybody who writes a flight waits for its turn, so that revisions are in the order of commits."""

    def __init__(self, writes: Noted) -> None:
        self._writes = writes
        self.failed = 0
        """Changes of documents that ended in an error."""

    @asynccontextmanager
    async def of(self, slots: Iterable[Slot]) -> AsyncIterator[None]:
        """Wait for these flights' turns, always in the same order, so that nobody waits for ever."""
        async with AsyncExitStack() as turns:
            for slot in sorted(slots, key=lambda slot: slot.place):
                await turns.enter_async_context(slot.turn)
            yield

    def change(self, slot: Slot, values: Document, *, removal: bool = False) -> BoardChange:
        """Begin the next revision of a flight whose turn it is."""
        revision = self._writes.begin(slot.place, time.monotonic(), removal=removal)
        values = {**values, "rev": revision}
        slot.document |= values
        return BoardChange(slot, revision, values)

    def acknowledge(self, changes: Sequence[BoardChange], session: Any) -> None:
        """To be called at once when the acknowledgement has come, while its session is open."""
        self.acknowledge_at(time.monotonic(), changes, session.operation_time)

    def acknowledge_at(self, at: float, changes: Sequence[BoardChange], operation_time: Any) -> None:
        version = from_timestamp(operation_time)
        for change in changes:
            self._writes.acknowledge(change.slot.place, change.revision, at, version)

    @asynccontextmanager
    async def noting(self, changes: Sequence[BoardChange]) -> AsyncIterator[None]:
        """What goes wrong leaves the flights in doubt, and the others go on."""
        try:
            with pymongo.timeout(PATIENCE_SECONDS):
                yield
        except PyMongoError:
            self.failed += len(changes)
            for change in changes:
                change.slot.doubtful = True
