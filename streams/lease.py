"""Who watches: several watchers of one group may run, one of them holds the lease and works.

One document per watcher group, in the control collection:

    {_id: "lease:<group>", holder, term, until}

All times are the server's (`$$NOW`), so no watcher's clock matters. Every new holding has a higher term, even by the
same watcher: stored positions are fenced by it and marks carry it. A term is at least the time at which it began, in
milliseconds: should the document vanish (`dropDatabase` takes it along), the next term is higher all the same.
A holder that was paused past its lease publishes changes a second time, which changes nothing; its positions are
refused and its marks are of an older term.
"""

import asyncio
import secrets
import socket
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import pymongo
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, PyMongoError

from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.errors import NeverstaleError, Retry
from neverstale.mongodb.control import CONTROL, control, lease_id
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.role.ticks import until_tick
from neverstale.streams.cursor import Database
from neverstale.streams.error_codes import of_step

log = telemetry.logger(__name__)

SECONDS: Final = 5.0
"""Deadline of one write of the lease."""
RENEWALS: Final = 4
"""A lease is renewed so many times in its life."""
EPOCH: Final = datetime.fromtimestamp(0, UTC)
POLL_SECONDS: Final = 0.25
"""Between two attempts of a standby: how late it notices that the lease was given back."""


class LeaseLost(Retry):
    """Another watcher has taken over: stand by."""


class Lease:
    """The lease of a watcher group, as one watcher sees it."""

    def __init__(self, database: Database, group: str, lease_ms: int, watches: str = DEFAULT_GROUP) -> None:
        """`watches`: what the catalog calls the group."""
        self._leads = telemetry.WATCHER_LEADS.labels(watches)
        self._told_term = telemetry.WATCHER_TERM.labels(watches)
        self._collection = control(database)
        self._id = lease_id(group)
        self._lease_ms = lease_ms
        self._holder = f"{socket.gethostname()}-{secrets.token_hex(8)}"
        self.term = 0
        """Of our holding; 0 before the first."""

    async def acquire(self) -> bool:
        """Take the lease if nobody holds it; True when it is ours now. A holding of ours that still lasts goes on."""
        if self.term and await self._renewed():
            return True
        free = {"$lte": [{"$ifNull": ["$until", EPOCH]}, "$$NOW"]}
        take: dict[str, Any] = {
            "holder": {"$cond": [free, {"$literal": self._holder}, "$holder"]},
            "term": {"$cond": [free, self._next_term(), "$term"]},
            "until": {"$cond": [free, self._until(), "$until"]},
        }
        held = await self._set(take, SECONDS, "taking")
        ours = held is not None and held["holder"] == self._holder
        self._leads.set(ours)
        if held is None or not ours:
            return False
        self.term = held["term"]
        self._told_term.set(self.term)
        log.info("lease_taken", reason="nobody held it", term=self.term)
        return True

    async def outrank(self, term: int) -> int:
        """Our term, raised above `term` if that is higher: the lease may have been deleted, the positions not."""
        if term > self.term:
            mine = {"_id": self._id, "holder": self._holder, "term": self.term}
            try:
                with pymongo.timeout(SECONDS):
                    raised = await self._collection.update_one(mine, {"$set": {"term": term + 1}})
            except PyMongoError as error:
                raise _failed(error, "raising") from error
            if not raised.matched_count:
                raise LeaseLost("another watcher took the lease")
            self.term = term + 1
            self._told_term.set(self.term)
        return self.term

    async def keep(self) -> NoReturn:
        """Renew until cancelled. `LeaseLost`: another watcher has it; `Outage`: it could not be renewed in time."""

        async def renew() -> None:
            await asyncio.sleep(until_tick(self._lease_ms / 1000 / RENEWALS))
            if not await self._renewed():
                raise LeaseLost(f"the lease of term {self.term} has run out and another watcher took it")

        await forever(renew)

    async def release(self) -> None:
        """Let a standby take over at once. Best effort: the lease runs out by itself."""
        if not self.term:
            return
        mine = {"_id": self._id, "holder": self._holder, "term": self.term}
        self.term = 0
        self._leads.set(0)
        try:
            with pymongo.timeout(SECONDS):
                await self._collection.update_one(mine, [{"$set": {"until": "$$NOW"}}])
        except PyMongoError as error:
            log.warning("lease_not_given_back", reason=type(error).__name__)

    async def _renewed(self) -> bool:
        """Whether the lease is ours still. A document that has vanished went with its database: put it back."""
        holder = {"$ifNull": ["$holder", {"$literal": self._holder}]}
        renew: dict[str, Any] = {
            "holder": holder,
            "term": {"$ifNull": ["$term", self.term]},
            "until": {"$cond": [{"$eq": [holder, {"$literal": self._holder}]}, self._until(), "$until"]},
        }
        held = await self._set(renew, min(SECONDS, self._lease_ms / 1000), "renewing")
        ours = held is not None and held["holder"] == self._holder and held["term"] == self.term
        self._leads.set(ours)
        return ours

    async def _set(self, fields: dict[str, Any], seconds: float, doing: str) -> dict[str, Any] | None:
        """The document after these expressions were set; `None`: another watcher made it at the same moment."""
        try:
            with pymongo.timeout(seconds):
                return await self._collection.find_one_and_update(
                    {"_id": self._id}, [{"$set": fields}], upsert=True, return_document=ReturnDocument.AFTER
                )
        except DuplicateKeyError:
            return None
        except PyMongoError as error:
            raise _failed(error, doing) from error

    def _next_term(self) -> dict[str, Any]:
        return {"$max": [{"$add": [{"$ifNull": ["$term", 0]}, 1]}, {"$toLong": "$$NOW"}]}

    def _until(self) -> dict[str, Any]:
        return {"$add": ["$$NOW", self._lease_ms]}


def _failed(error: PyMongoError, doing: str) -> NeverstaleError:
    return of_step(error, f"{doing} the lease", CONTROL)
