"""The only reader of documents in MongoDB.

Every read but `export` is a snapshot read (`readConcern: snapshot`), which answers with the exact version of the
state that it read, `cursor.atClusterTime`. A state read at s contains a change made at t if and only if s >= t.
Snapshot reads are majority-committed, so what is rolled back later is never seen.
Source: MongoDB manual, "Read Concern snapshot" (outside transactions: MongoDB 5.0 or later).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import pymongo
from bson.min_key import MinKey
from bson.objectid import ObjectId
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import ConnectionFailure, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from neverstale.bson.values import under
from neverstale.catalog import Resource
from neverstale.errors import NeverstaleError, Outage, Overloaded, Refused
from neverstale.keys import KeyValue, canonical
from neverstale.mongodb.bodies import bodies_and_etags, bodies_of, lines, portions
from neverstale.mongodb.control import CONTROL
from neverstale.mongodb.kinds import Kind, Kinds
from neverstale.mongodb.refusals import Operation, ours, row_of
from neverstale.mongodb.replies import REPLY, RawReply, Reply, Row, decoded, split, undecoded_bytes
from neverstale.redis.entries import NO_ETAG, etag_of
from neverstale.role import telemetry
from neverstale.role.cancellation import heed
from neverstale.versions import Version, from_timestamp, to_timestamp

UNKNOWN_FIELD: Final = 40415
"""What MongoDB 5 answers to `collectionUUID`."""
UUID_MISMATCH: Final = 361
"""The name stands for another collection, or for none."""
ORDINARY: Final = Kind("collection")
ATTEMPTS: Final = 3
UNSURE: Final = Kind("missing")
"""What was read is of one kind or another; whoever reads next knows more."""
INVALID_OPTIONS: Final = 72
"""What the server answers when `afterClusterTime` lies in its future."""
SNAPSHOT_UNAVAILABLE: Final = 246
"""The collection was created or indexed just now, later than the state that the server would read."""
LATER: Final = 1.25
LATER_SECONDS: Final = 0.25
"""How much longer than the server we wait for a query that it should end by itself."""
EXPORT_DOCUMENTS: Final = 1000
"""Of a collection that is streamed, so many are asked for at once; a reply has at most 16 MB."""
_PLAIN: Final = frozenset((str, int, ObjectId, UUID))
"""Types of the keys that resources are declared with."""
AGAIN: Final = ("TransientTransactionError", "UnknownTransactionCommitResult")
"""Labels of errors behind which a transaction that changes nothing may be tried again."""
ABORT_SECONDS: Final = 1.0
"""However busy the server is, nobody waits longer for the end of what came to nothing."""
OFF_LOOP_BYTES: Final = 32 << 10
"""BSON of which more is decoded and made JSON by a thread: it would hold up the event loop."""


class TooLarge(Overloaded):
    """Documents that were asked for together are too large for that; fewer may be read."""

    def __init__(self, size: int, count: int) -> None:
        super().__init__("mongodb")
        self.size = size
        self.count = count
        """Of the documents that were read until then."""


class VersionInFuture(NeverstaleError):
    """A state was asked for that the cluster has not reached: the version was not made by this cluster."""

    def __init__(self, reached: Version) -> None:
        super().__init__("the version lies in the future of this cluster")
        self.reached = reached
        """The latest version that it could have been then; 0: not told."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Documents as of one version. A key that was asked for and is not in `bodies` was absent then."""

    version: Version
    bodies: dict[str, bytes]
    """Canonical key -> JSON."""
    expiries: Mapping[str, int] = field(default_factory=dict)
    """Canonical key -> when the document says that it ends, in ms since 1970."""
    kind: Kind = ORDINARY
    """What it was read from: it may be kept only if changes of that are told."""
    _etags: dict[str, bytes] = field(default_factory=dict, compare=False)
    refused: Mapping[str, NeverstaleError] = field(default_factory=dict)
    """Canonical key -> why what was found is no answer. Such a key is in no `bodies`, and is not absent either."""

    def etag(self, key: str) -> bytes:
        """The ETag of the body that `bodies` has for a key, if it has one; it is made once."""
        etag = self._etags.get(key)
        if etag is None:
            body = self.bodies.get(key)
            etag = self._etags[key] = etag_of(body) if body is not None else NO_ETAG
        return etag


@dataclass(frozen=True, slots=True)
class Found:
    """What a query found, as decoded BSON."""

    version: Version
    rows: list[dict[str, Any]]
    cut: bool
    """There is more than one reply holds."""
    kind: Kind = ORDINARY
    size: int = 0
    """Bytes, if it was too large to be decoded at once."""


class Loader:
    """Reads declared resources of one database. Safe for concurrent use; holds no state but the client."""

    def __init__(
        self,
        client: AsyncMongoClient[dict[str, Any]],
        database: str,
        timeout_ms: int,
        kinds: Kinds | None = None,
        most_bytes: int | None = None,
        at: Version = 0,
    ) -> None:
        """`most_bytes`: of several documents that are loaded together; `None`: any number. `at`: all is read at
        exactly this version, as long as MongoDB keeps its state."""
        self._most_bytes = most_bytes
        self._at = at
        self._database = client[database]
        self._timeout = timeout_ms / 1000
        self._kinds = kinds or Kinds(self._database, timeout_ms)

    async def load(self, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        """Read `keys` of a resource at one version >= `at_least`.

        Raises `Outage` when MongoDB does not answer in time, `Refused` when it will not do this (see
        `neverstale.mongodb.refusals`), `VersionInFuture` when `at_least` lies ahead of it, and `TooLarge`.
        """
        started = time.perf_counter()
        projection = dict.fromkeys(resource.fields, 1) if resource.fields is not None else None
        version, found, kind = await self._read(resource.collection, keys, projection, at_least)
        if undecoded_bytes(found) > OFF_LOOP_BYTES:
            bodies, expiries, etags = await asyncio.to_thread(bodies_and_etags, resource, found)
        else:
            bodies, expiries, etags = *bodies_of(resource, found), {}
        telemetry.LOADS.labels(resource.name).inc()
        telemetry.LOAD_KEYS.observe(len(keys))
        telemetry.LOAD_SECONDS.observe(time.perf_counter() - started)
        return Snapshot(version, bodies, expiries, kind, etags)

    async def read(
        self, collection: str, keys: Sequence[Any], projection: Mapping[str, Any] | None, at_least: Version
    ) -> tuple[Version, list[dict[str, Any]]]:
        """Documents by `_id`, as decoded BSON, at one version >= `at_least`; raises like `load`."""
        version, found, _ = await self._read(collection, keys, projection, at_least)
        return version, list(map(decoded, found))

    async def _read(
        self, collection: str, keys: Sequence[Any], projection: Mapping[str, Any] | None, at_least: Version
    ) -> tuple[Version, list[Row], Kind]:
        found: list[Row] = []
        wanted = list(keys)
        concern = _concern(at_least, self._at)
        while True:
            reply, kind = await self._find(collection, wanted, projection, concern)
            cursor = reply.cursor
            # A collection that does not exist is read without a time of its own; what was asked for is reached, and
            # claiming an earlier version than was read is always safe. (The reply's `operationTime` may be later.)
            version: Version = from_timestamp(cursor["atClusterTime"]) if "atClusterTime" in cursor else at_least
            found += reply.rows
            if not cursor["id"]:
                break
            # More than one reply can hold (16 MB): the rest is read from the same state.
            await self._command({"killCursors": collection, "cursors": [cursor["id"]]}, "keys")
            if self._most_bytes is not None and (size := undecoded_bytes(found)) > self._most_bytes:
                raise TooLarge(size, len(found))
            have = {canonical(decoded(row)["_id"]) for row in reply.rows}
            wanted = [key for key in wanted if canonical(key) not in have]
            concern = {"level": "snapshot", "atClusterTime": cursor["atClusterTime"]}
        if version < at_least:
            raise Outage("mongodb", "a member answered with an older state than was asked for")
        return version, found, kind

    async def query(self, command: Mapping[str, Any], at_least: Version, at: Version = 0) -> Found:
        """Answer a `find` or `aggregate` at one version >= `at_least`, or exactly `at`, with one reply.

        Raises like `load`, and `TooSlow`.
        """
        concern = _concern(at_least, at or self._at)
        collection = next(iter(command.values()))
        raw, kind = await self._of_kind({**command, "readConcern": concern}, "query")
        reply = Reply.of(raw)
        cursor = reply.cursor
        version: Version = from_timestamp(cursor["atClusterTime"]) if "atClusterTime" in cursor else max(at, at_least)
        if cursor["id"]:
            await self._command({"killCursors": collection, "cursors": [cursor["id"]]}, "query")
        if version < at_least:
            raise Outage("mongodb", "a member answered with an older state than was asked for")
        size = undecoded_bytes(reply.rows)
        rows = await asyncio.to_thread(reply.documents) if size > OFF_LOOP_BYTES else reply.documents()
        return Found(version, rows, bool(cursor["id"]), kind, size)

    async def export(
        self, resource: Resource, fields: Sequence[str] | None, where: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[bytes, None]:
        """All documents in the order of `_id`, as lines of JSON, one reply of the server at a time: the next one is
        asked for when the caller has come back for it. `fields`: besides `_id`; `None`: all. `where`: only documents
        with these values.

        They are majority-committed, but not all of one version: this may take longer than the server keeps a state.
        Whoever ends early closes the generator, which ends the cursor on the server. Raises `Outage` and `Refused`.
        """
        collection = self._database.get_collection(resource.collection, read_concern=ReadConcern("majority"))
        projection = None if fields is None else {"_id": 1} | dict.fromkeys(fields, 1)
        cursor = collection.find_raw_batches(where or {}, projection, sort=[("_id", 1)], batch_size=EXPORT_DOCUMENTS)
        try:
            while True:
                heed()
                with pymongo.timeout(self._timeout):
                    batch: Any = await anext(cursor, None)  # bytes, whatever the driver declares
                if batch is None:
                    return
                for some in portions(split(batch)):
                    yield await asyncio.to_thread(lines, some) if len(batch) > OFF_LOOP_BYTES else lines(some)
        except Exception as error:
            raise ours(error, "export") from error
        finally:
            with pymongo.timeout(self._timeout):
                await cursor.close()

    async def count(self, collection: str) -> int:
        """About how many documents a collection has."""
        reply = await self._command({"count": collection}, "count")
        return int(reply["n"])

    async def now(self) -> Version:
        """A version >= every change that was majority-acknowledged before this call.

        It commits a transaction that read nothing. For that the primary writes an entry into its log and waits until
        a majority has it, which confirms that it still was the primary: what was acknowledged before is in its log,
        before that entry. A linearizable read does the same; but a primary without secondaries answers one only with
        its next flush of the journal, up to 100 ms later. A process that is killed within leaves the transaction
        open for up to a minute, and whoever wants to drop what it has read waits so long, and all that read it behind
        him. So it reads a collection of ours, which nobody drops.
        Source: MongoDB server, `TransactionParticipant::Participant::commitUnpreparedTransaction` (since 4.2).
        """
        try:
            async with self._database.client.start_session() as session:
                for last in (False, True):
                    try:
                        with pymongo.timeout(self._timeout):
                            return await self._commit_nothing(session)
                    except PyMongoError as error:
                        if last or error.timeout or not any(map(error.has_error_label, AGAIN)):
                            raise
                    finally:
                        await _leave_nothing_open(session)
                raise AssertionError("unreachable")
        except Exception as error:
            raise ours(error, "now") from error

    async def proof(self) -> Version:
        """The same, for who states the age of an answer by it; and an `Outage` where one member cannot speak for all:
        the shards behind a mongos have clocks and logs of their own."""
        servers = self._database.client.topology_description.server_descriptions().values()
        if any(server.server_type_name in ("Mongos", "LoadBalancer") for server in servers):
            raise Outage("mongodb", "a shard does not speak for the others")
        return await self.now()

    async def _commit_nothing(self, session: AsyncClientSession) -> Version:
        await session.start_transaction(ReadConcern("local"), WriteConcern("majority"), ReadPreference.PRIMARY)
        await self._database.command({"find": CONTROL, "filter": {"_id": MinKey()}, "limit": 1}, session=session)
        await session.commit_transaction()
        assert session.operation_time is not None
        return from_timestamp(session.operation_time)

    async def _find(
        self, collection: str, keys: list[Any], projection: Mapping[str, Any] | None, concern: dict[str, Any]
    ) -> tuple[Reply, Kind]:
        command: dict[str, Any] = {
            "find": collection,
            "filter": {"_id": _one_of(keys)},
            "batchSize": len(keys) + 1,  # one more than can come, so that the server closes the cursor by itself
            "readConcern": concern,
        }
        if projection is not None:
            command["projection"] = projection
        raw, kind = await self._of_kind(command, "keys")
        return Reply.of(raw), kind

    async def _of_kind(self, command: dict[str, Any], operation: Operation) -> tuple[RawReply, Kind]:
        """Run a read command on a collection; and what that collection is, as of the state that was read.

        See `neverstale.mongodb.kinds`. Raises like `load`.
        """
        collection = next(iter(command.values()))
        kind = await self._kinds.of(collection)
        for _ in range(ATTEMPTS):
            if not kind.told:
                return await self._command(command, operation), kind
            if kind.uuid is None or not self._kinds.by_uuid:
                raw = await self._command(command, operation)
                return raw, kind if await self._kinds.look(collection) == kind else UNSURE
            try:
                return await self._command({**command, "collectionUUID": kind.uuid}, operation), kind
            except Refused as refusal:
                if refusal.code == UNKNOWN_FIELD:
                    self._kinds.by_uuid = False
                elif refusal.code == UUID_MISMATCH:
                    kind = await self._kinds.look(collection)
                else:
                    raise
        # It is made again and again, or a member that lags behind has not heard of it.
        return await self._command(command, operation), UNSURE

    async def _command(self, command: dict[str, Any], operation: Operation) -> RawReply:
        """Run a read command; try once more where another member or moment may do. Errors by code, as types."""
        for last in (False, True):
            try:
                if operation == "query":
                    return await self._limited(command)
                with pymongo.timeout(self._timeout):
                    return await self._database.command(command, codec_options=REPLY)
            except OperationFailure as error:
                if error.code == INVALID_OPTIONS and "afterClusterTime" in command.get("readConcern", ()):
                    raise VersionInFuture(_reached(error)) from None
                row = row_of(error.code, operation)
                if last or row is None or not row.heals:
                    raise ours(error, operation) from error
                if error.code == SNAPSHOT_UNAVAILABLE:
                    command = _as_of_refusal(command, error)
            except ConnectionFailure as error:
                if last or error.timeout:
                    raise ours(error, operation) from error
            except Exception as error:
                raise ours(error, operation) from error
        raise AssertionError("unreachable")

    async def _limited(self, command: dict[str, Any]) -> RawReply:
        """The server ends it in time and says so. The client's own time-out ends at the same moment, and could not
        tell a server that is busy with this query from one that is away; so ours ends later."""
        limited = {**command, "maxTimeMS": round(self._timeout * 1000)}
        async with asyncio.timeout(self._timeout * LATER + LATER_SECONDS):
            return await self._database.command(limited, codec_options=REPLY)


def _concern(at_least: Version, at: Version) -> dict[str, Any]:
    """Of a read at one version: exactly this one, or any that is as high."""
    if at:
        return {"level": "snapshot", "atClusterTime": to_timestamp(at)}
    return {"level": "snapshot"} | ({"afterClusterTime": to_timestamp(at_least)} if at_least else {})


async def _leave_nothing_open(session: AsyncClientSession) -> None:
    """Abort what was begun and came to no end. Left open, it would keep anybody from dropping what it has read, until
    the server gives it up after a minute."""
    if session.in_transaction:
        with suppress(PyMongoError), pymongo.timeout(ABORT_SECONDS):
            await session.abort_transaction()


def _one_of(keys: list[Any]) -> Any:
    if not _PLAIN.issuperset(map(type, keys)):
        return under("$in", keys)  # the driver might not encode them as they are
    return keys[0] if len(keys) == 1 else {"$in": keys}


def _reached(refusal: OperationFailure) -> Version:
    """The cluster's time when it refused: no version of its own was later."""
    time = ((refusal.details or {}).get("$clusterTime") or {}).get("clusterTime")
    return from_timestamp(time) if time is not None else 0


def _as_of_refusal(command: dict[str, Any], error: OperationFailure) -> dict[str, Any]:
    """The command for a state not older than the refusal. Merely asked again, the server might refuse again."""
    concern = command["readConcern"]
    reached = (error.details or {}).get("operationTime")
    if reached is None or "atClusterTime" in concern:
        return command
    return command | {"readConcern": concern | {"afterClusterTime": reached}}
