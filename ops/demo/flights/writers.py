"""Writers of the board: several drivers at once, each in the way its users write.

| happening                 | written by                                                      |
|---------------------------|-----------------------------------------------------------------|
| gate, delay, cancellation | PyMongo async, bulk write of up to 20 flights                   |
| departure                 | Motor, update                                                   |
| arrival                   | PyMongo async, findAndModify                                    |
| gate swap                 | PyMongo sync in a thread, transaction over two flights          |
| refiling                  | Motor, delete and insert                                        |
| a new week                | PyMongo async, bulk write over all flights                      |

Motor is past its end of life; it is here because users still have it.
"""

import asyncio
import time
import warnings
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.util import find_spec
from inspect import isawaitable
from typing import Any, Final, Self

import pymongo
from pymongo import AsyncMongoClient, MongoClient, ReplaceOne, UpdateOne
from pymongo.write_concern import WriteConcern

from neverstale.ops.demo.flights.board import Document, Week, gate
from neverstale.ops.demo.flights.replay import BULKED, Happening
from neverstale.ops.demo.flights.turns import PATIENCE_SECONDS, BoardChange, Noted, Slot, Turns

THREADS: Final = 2
CHUNK: Final = 1000
READ_ALL_SECONDS: Final = 60.0
OPTIONS: Final[dict[str, Any]] = {
    "w": WriteConcern("majority").document["w"],
    "readConcernLevel": "majority",
    "serverSelectionTimeoutMS": int(PATIENCE_SECONDS * 1000),
    "tz_aware": True,
}
COLLECTIONS: Final = ("flights", "airlines", "airports")


class Unexpected(Exception):
    """MongoDB did something else than it was asked for."""


class Writers:
    """All writers of one board. A failed write is counted and made good by the flight's next one."""

    def __init__(self, uri: str, database: str, week: Week, writes: Noted) -> None:
        self._week = week
        self.turns = Turns(writes)
        self._slots = [Slot(place, flight.document) for place, flight in enumerate(week.flights)]
        self._async: AsyncMongoClient[Document] = AsyncMongoClient(uri, **OPTIONS)
        self._sync: MongoClient[Document] = MongoClient(uri, **OPTIONS)
        self._motor = _motor(uri)
        self._database = self._async[database]
        self._flights = self._database.flights
        self._sync_flights = self._sync[database].flights
        self._motor_flights = self._motor[database].flights
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="writer")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown()
        self._sync.close()
        for client in (self._motor, self._async):
            if isawaitable(closing := client.close()):
                await closing

    async def load(self) -> None:
        """Put the week's schedule, the airlines and the airports in place of whatever is there."""
        for name in COLLECTIONS:
            await self._database[name].delete_many({})
        await self._database.airlines.insert_many(self._week.airlines)
        await self._database.airports.insert_many(self._week.airports)
        for start in range(0, len(self._slots), CHUNK):
            changes = [self.turns.change(slot, {}) for slot in self._slots[start : start + CHUNK]]
            async with self._async.start_session() as session:
                documents = [change.slot.document for change in changes]
                await self._flights.insert_many(documents, session=session)
                self.turns.acknowledge(changes, session)

    async def stored(self) -> dict[str, dict[str, Document]]:
        """What MongoDB holds now: collection -> `_id` -> document."""
        with pymongo.timeout(READ_ALL_SECONDS):
            return {
                name: {document["_id"]: document async for document in self._database[name].find()}
                for name in COLLECTIONS
            }

    async def write(self, step: Sequence[Happening]) -> int:
        """Write one step; returns how many changes of documents were acknowledged."""
        slots = [self._slots[place] for place in {place for item in step for place in item.flights}]
        async with self.turns.of(slots):
            if not await self._settle(slots):
                return 0
            kind, first = step[0].kind, self._slots[step[0].flight]
            if kind == "swap":
                return await self._swap(*slots)
            if kind == "refiling":
                return await self._remove(first) and await self._file(first)
            changes = [self.turns.change(self._slots[item.flight], dict(item.values)) for item in step]
            if kind in BULKED:
                return await self._bulk(changes)
            return await (self._depart if kind == "departure" else self._arrive)(changes[0])

    async def begin_week(self) -> int:
        """Set all flights back to the schedule."""
        return sum([await self._begin(self._slots[at : at + CHUNK]) for at in range(0, len(self._slots), CHUNK)])

    async def _begin(self, slots: Sequence[Slot]) -> int:
        async with self.turns.of(slots):
            if not await self._settle(slots):
                return 0
            changes = []
            for slot in slots:
                slot.document = self._week.flights[slot.place].document
                back = {name: slot.document[name] for name in ("status", "cancelled", "gate")}
                changes.append(self.turns.change(slot, back))
            updates = [
                UpdateOne(c.filter, c.operators | {"$unset": {"dep_delay": 1, "arr_delay": 1}}) for c in changes
            ]
            return await self._bulk_write(changes, updates, ordered=False)

    async def _settle(self, slots: Sequence[Slot]) -> bool:
        """After writes of unknown outcome: write the whole documents. Returns whether all is certain again."""
        doubtful = [slot for slot in slots if slot.doubtful]
        if not doubtful:
            return True
        changes = [self.turns.change(slot, {}) for slot in doubtful]
        whole = [ReplaceOne(change.filter, change.slot.document, upsert=True) for change in changes]
        async with self.turns.noting(changes), self._async.start_session() as session:
            await self._flights.bulk_write(whole, session=session)
            self.turns.acknowledge(changes, session)
            for slot in doubtful:
                slot.doubtful = False
        return not any(slot.doubtful for slot in doubtful)

    # --- PyMongo async

    async def _bulk(self, changes: Sequence[BoardChange]) -> int:
        return await self._bulk_write(changes, [UpdateOne(change.filter, change.operators) for change in changes])

    async def _bulk_write(
        self, changes: Sequence[BoardChange], updates: Sequence[UpdateOne], ordered: bool = True
    ) -> int:
        async with self.turns.noting(changes), self._async.start_session() as session:
            result = await self._flights.bulk_write(updates, ordered=ordered, session=session)
            self.turns.acknowledge(changes, session)
            return _expected(result.matched_count, len(changes))
        return 0

    async def _arrive(self, change: BoardChange) -> int:
        async with self.turns.noting([change]), self._async.start_session() as session:
            before = await self._flights.find_one_and_update(change.filter, change.operators, session=session)
            self.turns.acknowledge([change], session)
            return _expected(int(before is not None), 1)
        return 0

    # --- Motor

    @asynccontextmanager
    async def _motor_session(self) -> AsyncIterator[Any]:
        started = self._motor.start_session()
        async with await started if isawaitable(started) else started as session:
            yield session

    async def _depart(self, change: BoardChange) -> int:
        async with self.turns.noting([change]), self._motor_session() as session:
            result = await self._motor_flights.update_one(change.filter, change.operators, session=session)
            self.turns.acknowledge([change], session)
            return _expected(result.matched_count, 1)
        return 0

    async def _remove(self, slot: Slot) -> int:
        """An airline withdraws a flight ..."""
        removal = self.turns.change(slot, {}, removal=True)
        async with self.turns.noting([removal]), self._motor_session() as session:
            result = await self._motor_flights.delete_one(removal.filter, session=session)
            self.turns.acknowledge([removal], session)
            return _expected(result.deleted_count, 1)
        return 0

    async def _file(self, slot: Slot) -> int:
        """... and files it again, at another gate."""
        filed = self.turns.change(slot, {"gate": gate(slot.document["origin"], slot.document["rev"])})
        async with self.turns.noting([filed]), self._motor_session() as session:
            await self._motor_flights.insert_one(slot.document, session=session)
            self.turns.acknowledge([filed], session)
            return 2
        return 1

    # --- PyMongo sync

    async def _swap(self, one: Slot, other: Slot) -> int:
        """Two flights swap their gates: both or neither."""
        gates = one.document["gate"], other.document["gate"]
        changes = [self.turns.change(one, {"gate": gates[1]}), self.turns.change(other, {"gate": gates[0]})]
        async with self.turns.noting(changes):
            loop = asyncio.get_running_loop()
            at, operation_time = await loop.run_in_executor(self._threads, self._transaction, changes)
            self.turns.acknowledge_at(at, changes, operation_time)
            return len(changes)
        return 0

    def _transaction(self, changes: Sequence[BoardChange]) -> tuple[float, Any]:
        def write(session: Any) -> None:
            for change in changes:
                result = self._sync_flights.update_one(change.filter, change.operators, session=session)
                _expected(result.matched_count, 1)

        with pymongo.timeout(PATIENCE_SECONDS), self._sync.start_session() as session:
            session.with_transaction(write)
            return time.monotonic(), session.operation_time


def _motor(uri: str) -> Any:
    """Motor's client, or PyMongo's where Motor is not installed."""
    if find_spec("motor") is None:
        return AsyncMongoClient(uri, **OPTIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is past its end of life, we know
        from motor.motor_asyncio import AsyncIOMotorClient
    return AsyncIOMotorClient(uri, **OPTIONS)


def _expected(count: int, wanted: int) -> int:
    if count != wanted:
        raise Unexpected(f"MongoDB changed {count} documents instead of {wanted}")
    return count
