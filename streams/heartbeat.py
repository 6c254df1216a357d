"""Our own write, once a period, into a collection of the watched database that is in the stream.

On a quiet database it moves the resume token (an idle replica set moves it only every ten seconds) and gives marks a
fresh wall time. And since a mark cannot cover the newest change itself (see `neverstale.streams.mark_pacer`), a
change that no other follows is covered by a heartbeat that is written early for it.
"""

import asyncio
import contextlib
from typing import Final, NoReturn

import pymongo
from pymongo.errors import PyMongoError

from neverstale.mongodb.control import HEARTBEATS, heartbeats, unless_dropping
from neverstale.role.retry import forever
from neverstale.role.ticks import until_tick
from neverstale.settings import WatcherSettings
from neverstale.streams.cursor import Database
from neverstale.streams.error_codes import of_step
from neverstale.streams.mark_pacer import MarkPacer
from neverstale.versions import Version

WRITE_SECONDS: Final = 10.0


class Heart:
    """Beats once a period, and earlier for a change that waits for its mark."""

    def __init__(self, database: Database, settings: WatcherSettings, marks: MarkPacer) -> None:
        self._collection = heartbeats(database)
        self._group = settings.group
        self._period = settings.heartbeat_ms / 1000
        self._patience = settings.mark_interval_ms / 1000
        self._marks = marks
        self._uncovered: Version | None = None
        self._early = asyncio.Event()

    def cover(self, version: Version) -> None:
        """See to it that a mark of at least this version is published soon."""
        if self._uncovered is None:
            self._uncovered = version
            self._early.set()

    async def run(self) -> NoReturn:
        """Beat until cancelled. `Outage` if a beat is not acknowledged by a majority."""
        await self.beat()
        await forever(self._beat_when_due)

    async def _beat_when_due(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until_tick(self._period)):
                await self._until_needed()
        await self.beat()

    async def beat(self) -> None:
        # The count makes sure that something changes: an update to the same millisecond is no event.
        change = {"$currentDate": {"at": True}, "$inc": {"beats": 1}}
        try:
            with pymongo.timeout(WRITE_SECONDS):
                await unless_dropping(lambda: self._collection.update_one({"_id": self._group}, change, upsert=True))
        except PyMongoError as error:
            raise of_step(error, "writing a heartbeat", HEARTBEATS) from error

    async def _until_needed(self) -> None:
        """Until a change has waited for its mark as long as marks are apart under load."""
        while True:
            await self._early.wait()
            await asyncio.sleep(self._patience)
            self._early.clear()
            wanted, self._uncovered = self._uncovered, None
            if wanted is not None and self._marks.version < wanted:
                return
