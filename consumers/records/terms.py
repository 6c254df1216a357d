"""Terms of office: whose marks count.

A mark of an older term says nothing new, so one mark of a term that nobody holds would silence all true ones. The
lease document in MongoDB says which term was held last (`neverstale.streams.lease`): a mark of a later term is
believed only if it says so. It is asked for when such a mark comes, hence once for every new holding.
"""

import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from neverstale.consumers.records.batch import Batch, Folding
from neverstale.mongodb.control import LEASES, control
from neverstale.role import telemetry
from neverstale.role.log_repetitions import Seldom

log = telemetry.logger(__name__)

SECONDS: Final = 2.0
FRESH_SECONDS: Final = 1.0
"""For so long MongoDB is not asked again."""


class Offices(Protocol):
    async def newest(self) -> int:
        """The highest term that a watcher of this database has held; 0: none was ever held. Raises `PyMongoError`."""


class LeaseDocuments:
    """Reads the lease documents, as the watchers write them."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], database: str) -> None:
        self._collection = control(client[database])

    async def newest(self) -> int:
        leases = {**LEASES, "term": {"$type": "number"}}
        with pymongo.timeout(SECONDS):
            found = await self._collection.find_one(leases, {"term": 1}, sort=[("term", -1)])
        return int(found["term"]) if found is not None else 0


class Terms:
    """Settles the marks of which a batch does not know whether they count."""

    def __init__(self, folding: Folding, offices: Offices, clock: Callable[[], float] = time.monotonic) -> None:
        self._folding = folding
        self._offices = offices
        self._clock = clock
        self._asked_at = float("-inf")
        self._newest: int | None = None
        self._complaint = Seldom()

    async def settle(self, batch: Batch) -> None:
        """Take or leave the doubtful marks of a batch, before it is applied."""
        fresh = self._clock() - self._asked_at >= FRESH_SECONDS
        if fresh:
            self._newest = await self._ask()
            self._asked_at = self._clock()
        # Who was asked a moment ago may not know yet who took office since: only a fresh answer condemns.
        self._folding.settle_marks(batch, self._newest, condemns=fresh)

    async def _ask(self) -> int | None:
        try:
            return await self._offices.newest()
        except PyMongoError as error:
            if times := self._complaint.due():
                log.warning("term_unknown", reason=f"mongodb: {type(error).__name__}", times=times)
            return None
