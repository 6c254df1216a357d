"""`/v1/{resource}/-/export`: a whole collection as lines of JSON, straight from MongoDB.

The client sets the pace: MongoDB is asked for the next documents when it has read those before. One that goes away,
reads nothing for too long, or slowly while others wait, ends the cursor on the server, and so does the end of the
process. A stream that breaks off is seen as such: it lacks the last chunk of the chunked transfer (RFC 9112, section
7.1).
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from neverstale.api.callers.middleware import visit_of
from neverstale.api.state import state_of
from neverstale.api.web.paths import listed, parameters_of, shown
from neverstale.api.web.pieces import pieces
from neverstale.api.web.problems import bad_parameter
from neverstale.api.web.responses import ReadyResponse
from neverstale.catalog import Resource
from neverstale.errors import NeverstaleError, Overloaded
from neverstale.mongodb.loader import Loader
from neverstale.role import telemetry
from neverstale.settings import Api

log = telemetry.logger(__name__)

MEDIA_TYPE: Final = "application/x-ndjson"
PACE_SECONDS: Final = 10.0
"""How quickly an export is read is told from these last ones."""
LEAST_SECONDS: Final = 1.0
"""One that has just begun is not too slow: what it was sent lies in buffers on the way."""
HEADERS: Final = [(b"cache-control", b"no-store"), (b"content-type", MEDIA_TYPE.encode())]

FIELDS_PARAMETER: Final[dict[str, Any]] = {
    "name": "fields",
    "in": "query",
    "description": "Of the declared fields only these, separated by commas; `_id` is always there.",
    "style": "form",
    "explode": False,
}


class Lines(Response):
    media_type = MEDIA_TYPE


class BrokenExport(Exception):
    """A stream that has begun and cannot go on."""


class _Streaming:
    """An export that is under way, and how quickly it is read."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._total = 0
        self._read: deque[tuple[float, int]] = deque([(clock(), 0)])
        """What was read in all by when. The first is the last one before what is looked at."""
        self.task: asyncio.Task[None] | None = None
        self.displaced = False
        """Another one gets its place."""

    def read(self, size: int) -> None:
        self._total += size
        self._read.append((self._clock(), self._total))

    def pace(self) -> float:
        """Bytes a second, lately."""
        now = self._clock()
        while len(self._read) > 1 and self._read[1][0] <= now - PACE_SECONDS:
            self._read.popleft()
        began, before = self._read[0]
        return (self._total - before) / max(min(now - began, PACE_SECONDS), LEAST_SECONDS)


class Exports:
    """The exports that one process has under way. Every method belongs to its event loop.

    Who reads slowly holds a place only as long as nobody waits for it: the slowest of those below
    `api.export_bytes_per_second` makes room for the next one.
    """

    def __init__(self, loader: Loader, settings: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._loader = loader
        self._places = settings.exports
        self._stall_seconds = settings.export_stall_seconds
        self._least_pace = settings.export_bytes_per_second
        self._clock = clock
        self._streaming: list[_Streaming] = []

    async def run(
        self,
        resource: Resource,
        fields: Sequence[str] | None,
        receive: Receive,
        send: Send,
        where: Mapping[str, Any] | None = None,
    ) -> None:
        """Stream until the end, until the client goes away, or until that breaks off: then the response has no end.

        Raises `Overloaded`, and `Outage` before the first line.
        """
        place = _Streaming(self._clock)
        await self._take(place, resource)
        try:
            task = place.task = asyncio.create_task(
                self._stream(place, resource, fields, send, where), name=f"export-{resource.name}"
            )
            gone = asyncio.create_task(_gone(receive), name="export-client")
            try:
                await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
                client_is_there = task.done()
                await _cancelled(task)
        finally:
            self._streaming.remove(place)
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            outcome = "complete"
        elif place.displaced:
            outcome = "displaced"
        else:
            outcome = "broken" if client_is_there else "gone"
        telemetry.EXPORTS.labels(resource.name, outcome).inc()
        if error is not None and not isinstance(error, BrokenExport):
            raise error
        if outcome in ("broken", "displaced"):
            log.warning("export_broken_off", resource=resource.name, reason=_reason(place, error))

    async def _take(self, place: _Streaming, resource: Resource) -> None:
        """A place, or that of one that is read too slowly; the cursor of that one is closed first."""
        if len(self._streaming) < self._places:
            self._streaming.append(place)
            return
        slow = [one for one in self._streaming if one.task is not None and not one.displaced]
        slowest = min(slow, key=_Streaming.pace, default=None)
        if slowest is None or slowest.task is None or slowest.pace() >= self._least_pace:
            telemetry.EXPORTS.labels(resource.name, "refused").inc()
            raise Overloaded("mongodb")
        slowest.displaced = True
        self._streaming.append(place)
        await _cancelled(slowest.task)

    async def finish(self) -> None:
        """Break off all, and wait until their cursors are closed."""
        for streaming in list(self._streaming):
            if streaming.task is not None:
                await _cancelled(streaming.task)

    async def _stream(
        self,
        place: _Streaming,
        resource: Resource,
        fields: Sequence[str] | None,
        send: Send,
        where: Mapping[str, Any] | None,
    ) -> None:
        lines = self._loader.export(resource, fields, where)
        begun = False
        async with contextlib.aclosing(lines):
            try:
                async for batch in lines:
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                    await self._hand_over(place, batch, send)
            except (NeverstaleError, TimeoutError) as error:
                if not begun:
                    raise
                raise BrokenExport(str(error) or "the client reads nothing") from error
        if not begun:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b""})

    async def _hand_over(self, place: _Streaming, batch: bytes, send: Send) -> None:
        for piece in pieces((batch,)):
            async with asyncio.timeout(self._stall_seconds):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            place.read(len(piece))
            await asyncio.sleep(0)


class Export:
    """The ASGI endpoint of one resource. The exports are those that the app's lifespan opened."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields = fields_of(scope["query_string"], self._resource)
        if scope["method"] == "HEAD":
            await ReadyResponse(200, list(HEADERS))(scope, receive, send)
            return
        exports = state_of(scope).exports
        owner = visit_of(scope).owner(self._resource)
        where = None if owner is None else {owner.field: owner.value}
        await exports.run(self._resource, fields, receive, send, where)


def fields_of(query: bytes, resource: Resource) -> Sequence[str] | None:
    """What `fields=a,b` asks for, or all that is declared; `None`: whole documents. Raises a `Problem`."""
    declared = list(resource.fields) if resource.fields is not None else None
    wanted: list[str] = []
    for name, value in parameters_of(query):
        if name != "fields":
            raise bad_parameter(shown(name), "there is no such parameter; use fields")
        if not value:
            raise bad_parameter("fields", "names no field")
        wanted += listed(value, ["_id", *(declared or ())], "fields")
    if not wanted:
        return declared
    return [name for name in dict.fromkeys(wanted) if name != "_id"]


def fields_parameter(resource: Resource) -> dict[str, Any]:
    names = ["_id", *(resource.fields or ())]
    items = {"type": "string", "enum": names}
    return FIELDS_PARAMETER | {"schema": {"type": "array", "items": items, "minItems": 1}, "example": names[-1:]}


def _reason(place: _Streaming, error: BaseException | None) -> str:
    if place.displaced:
        return "the client reads slowly, and another export wants the place"
    return str(error or "the process ends")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Asks the task to end, once, and waits until it has, whatever happens meanwhile to who waits."""
    if not task.done() and not task.cancelling():
        task.cancel()
    await asyncio.wait((task,))
