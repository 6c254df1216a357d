"""The watcher's own change-stream cursor, on raw commands.

The driver's `watch()` resumes behind one's back and decodes one event at a time. A change stream is an ordinary
cursor: `aggregate` with `$changeStream`, then `getMore`, in one session; every reply carries a batch of events
and a `postBatchResumeToken`, from which one can go on. Here each of them is ours to see, and the next
`getMore` can be under way while a batch is worked on.

Source: MongoDB's specification "Change Streams", section "Drivers' cursor", and the server's manual.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final, Self, cast

import bson
import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import InvalidBSON
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS as RAW
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from neverstale.bson.values import RawValue
from neverstale.errors import Outage
from neverstale.mongodb.replies import Reply
from neverstale.settings import WatcherSettings
from neverstale.streams.error_codes import Phase, as_ours
from neverstale.streams.pipeline import RawEvent, Token
from neverstale.versions import Version, of_resume_token, to_timestamp

Database = AsyncDatabase[dict[str, Any]]

CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    document_class=dict, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
"""How all events of a batch are decoded in one call, if the driver can hold what is in them."""

DOUBTFUL: Final = (b"$ref\0", b"\x03key\0", b"\x03v", b"\x04v")
"""What a batch has in it if the driver might not hold it exactly: a key or a new value that is an object, a new value
that is an array, what looks like a DBRef."""

CLOSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class After:
    """Go on behind a token, also behind that of an `invalidate` event."""

    token: Token


@dataclass(frozen=True, slots=True)
class At:
    """Begin with the changes made at a version, inclusive."""

    version: Version


Start = After | At


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events in the order of the server, and the token behind them. Empty when nothing came in time."""

    events: list[RawEvent]
    token: Token
    last: bool = False
    """The server has closed the cursor: an `invalidate` event."""

    @property
    def version(self) -> Version:
        """The token's cluster time: an exclusive bound of what has been delivered."""
        return of_resume_token(self.token["_data"])


@dataclass(slots=True)
class StreamCursor:
    """An open cursor. Every error leaves as one of ours: `Outage`, `PositionLost` or `Stop`."""

    database: Database
    session: AsyncClientSession
    settings: WatcherSettings
    number: int
    token: Token
    """The position behind the last batch that was handed out."""
    _pending: asyncio.Task[RawBSONDocument] | None = field(default=None, init=False)
    asked_at: float = field(default=0.0, init=False)
    """When the pending `getMore` was sent, on the monotonic clock."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, database: Database, stages: list[dict[str, Any]], start: Start, settings: WatcherSettings
    ) -> AsyncIterator[Self]:
        """Open at `start`, and kill the cursor on the server at the end."""
        async with database.client.start_session(causal_consistency=False) as session:
            cursor = await cls._aggregate(database, session, stages, start, settings)
            try:
                yield cursor
            finally:
                await cursor._close()

    @classmethod
    async def _aggregate(
        cls,
        database: Database,
        session: AsyncClientSession,
        stages: list[dict[str, Any]],
        start: Start,
        settings: WatcherSettings,
    ) -> Self:
        match start:
            case After(token):
                # `resumeAfter` differs only in that it refuses the token of an `invalidate` event.
                where: dict[str, Any] = {"startAfter": token}
                phase = Phase.OPEN_AFTER_TOKEN
            case At(version):
                where = {"startAtOperationTime": to_timestamp(version)}
                phase = Phase.OPEN_AT_TIME
        command = {
            "aggregate": 1,
            "pipeline": [{"$changeStream": where}, *stages],
            # An empty first batch comes at once, however much of the oplog has to be searched for the second.
            "cursor": {"batchSize": 0},
            "readConcern": ReadConcern("majority").document,
        }
        try:
            reply = await database.command(command, session=session)
        except PyMongoError as error:
            raise as_ours(error, phase) from error
        opened = reply["cursor"]
        return cls(database, session, settings, opened["id"], opened["postBatchResumeToken"])

    def request(self) -> None:
        """Ask the server for the next batch, unless it has been asked already."""
        if self._pending is None:
            command = {
                "getMore": self.number,
                "collection": "$cmd.aggregate",
                "batchSize": self.settings.batch_size,
                "maxTimeMS": self.settings.max_await_ms,
            }
            self.asked_at = monotonic()
            self._pending = asyncio.create_task(
                self.database.command(command, codec_options=RAW, session=self.session),
                name="getMore",
            )

    async def batch(self) -> EventBatch:
        """Wait for the next batch. Cancelling the wait leaves the request alone, as it must: a `getMore` that
        is broken off on its way leaves it unknown which events the server has handed out."""
        self.request()
        assert self._pending is not None
        try:
            reply = await asyncio.shield(self._pending)
        except PyMongoError as error:
            raise as_ours(error, Phase.READ) from error
        self._pending = None
        cursor, events = _read(reply)
        self.token = cursor["postBatchResumeToken"]
        return EventBatch(events, self.token, last=cursor["id"] == 0)

    def seconds_overdue(self, now: float) -> float:
        """How long the pending request is waiting beyond the time that the server may hold it."""
        if self._pending is None or self._pending.done():
            return 0.0
        return max(0.0, now - self.asked_at - self.settings.max_await_ms / 1000)

    async def _close(self) -> None:
        """Kill the cursor on the server, then end the pending request; give up on a silent server."""
        pending, self._pending = self._pending, None
        with contextlib.suppress(PyMongoError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                with pymongo.timeout(CLOSE_SECONDS):
                    await self.database.command({"killCursors": "$cmd.aggregate", "cursors": [self.number]})
        if pending is not None:
            # The server notices the kill only when the request has waited its time. Nobody wants the answer
            # of a dead cursor: breaking the request off closes its connection, which ends it there too.
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)


def _read(reply: RawBSONDocument) -> tuple[Mapping[str, Any], list[RawEvent]]:
    """The cursor of a reply, and its events: all at once, or each by itself if one of them is odd."""
    raw = bytes(reply["cursor"].raw)
    if not any(sign in raw for sign in DOUBTFUL):
        try:
            cursor = bson.decode(raw, CODEC)
            return cursor, cursor["nextBatch"]
        except InvalidBSON:
            pass
    odd = Reply.of(reply)
    return odd.cursor, [_event(one) for one in odd.documents()]


def _event(event: dict[str, Any]) -> RawEvent:
    if event["fields"] is not None:
        # No declared path is equal to a name that is no UTF-8, or begins with it; so it need not be exact.
        event["fields"] = [path.text if isinstance(path, RawValue) else path for path in event["fields"]]
    return cast("RawEvent", event)


async def present_time(database: Database) -> Version:
    """The server's present cluster time; a change made from now on has this version or a later one."""
    try:
        reply = await database.command("ping")
    except PyMongoError as error:
        raise Outage("mongodb", f"{type(error).__name__}: {error}") from error
    time = reply["operationTime"]
    version: Version = time.time << 32 | time.inc
    return version
