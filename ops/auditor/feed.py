"""What was just changed: a change stream of the auditor's own, which no watcher, broker or consumer can thin out.

It is opened at now, and opened again at now when it breaks: it tells what to look at. Each change is a sample of the
timeline, too, and what was told without a break is kept for the judge (`neverstale.ops.auditor.judging.changes`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from neverstale.catalog import Catalog
from neverstale.keys import canonical
from neverstale.ops.auditor.judging.changes import Changes
from neverstale.ops.auditor.judging.timeline import Timeline
from neverstale.role import telemetry
from neverstale.role.cancellation import heed
from neverstale.versions import Version, from_timestamp, of_resume_token

log = telemetry.logger(__name__)

GONE: Final = ("drop", "rename", "create")
MOST: Final = 2000
"""Changes of a resource that are remembered."""
AWAIT_MS: Final = 250
PAUSE_SECONDS: Final = 1.0
REFUSED_SECONDS: Final = 60.0


class Feed:
    def __init__(self, client: AsyncMongoClient[dict[str, Any]], catalog: Catalog, timeline: Timeline) -> None:
        self._database = client[catalog.database]
        self._timeline = timeline
        self._changed: Mapping[str, deque[Any]] = {
            one.collection: deque(maxlen=MOST) for one in catalog.resources.values()
        }
        self.changes: Mapping[str, Changes] = {collection: Changes() for collection in self._changed}
        """By collection."""
        self.problem: str | None = "not open yet"
        """Why nothing is told; `None`: it is."""

    def take(self, collection: str, most: int) -> list[Any]:
        """Keys that were changed and that nobody has taken yet, the last ones first."""
        changed = self._changed[collection]
        return [changed.pop() for _ in range(min(most, len(changed)))]

    def peek(self, collection: str, most: int) -> list[Any]:
        """The keys that were changed last and that nobody has taken yet."""
        return list(islice(reversed(self._changed[collection]), most))

    async def keep(self) -> None:
        """Listen until cancelled."""
        while True:
            pause = PAUSE_SECONDS
            try:
                await self._listen()
            except OperationFailure as error:
                self.problem, pause = f"MongoDB refuses a change stream: error {error.code}", REFUSED_SECONDS
                log.warning("audit_feed_refused", code=error.code)
            except PyMongoError as error:
                self.problem = type(error).__name__
            heed()
            await asyncio.sleep(pause)

    async def _listen(self) -> None:
        ours = {"$in": list(self._changed)}
        pipeline: list[dict[str, Any]] = [
            {"$match": {"$or": [{"ns.coll": ours}, {"to.coll": ours}]}},
            {"$project": {"ns": 1, "to": 1, "documentKey": 1, "clusterTime": 1, "operationType": 1}},
        ]
        for changes in self.changes.values():
            changes.forget()
        async with await self._database.watch(pipeline, max_await_time_ms=AWAIT_MS) as stream:
            self.problem = None
            while stream.alive:  # until the database is dropped
                change = await stream.try_next()
                heed()
                if change is not None:
                    self._note(change)
                if (token := stream.resume_token) is not None:
                    self._reached(of_resume_token(token["_data"]) - 1)

    def _reached(self, version: Version) -> None:
        """Everything up to this version has been told. There may be more of the version that the token names."""
        for changes in self.changes.values():
            changes.reached(version)

    def _note(self, change: Mapping[str, Any]) -> None:
        version, collection = from_timestamp(change["clusterTime"]), change["ns"].get("coll")
        self._timeline.saw(version, time.monotonic())
        if change["operationType"] in GONE:
            for name in (collection, change.get("to", {}).get("coll")):
                if name in self.changes:
                    self.changes[name].forget()
        key = change.get("documentKey", {}).get("_id")
        if key is not None:
            self._changed[collection].append(key)
            self.changes[collection].saw(version, canonical(key))
