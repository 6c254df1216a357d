"""`/v1/{resource}/-/export`: a whole collection as lines of JSON, straight from MongoDB.

The client sets the pace: MongoDB is asked for the next documents when it has read those before. One that goes away,
or reads nothing for too long, ends the cursor on the server, and so does the end of the process. A stream that breaks
off is seen as such: it lacks the last chunk of the chunked transfer (RFC 9112, section 7.1).
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from api.problems import bad_parameter
from api.responses import Raw
from api.targets import listed, parameters_of, shown
from neverstale import telemetry
from neverstale.catalog import Resource
from neverstale.errors import NeverstaleError, Overloaded
from neverstale.loader import Loader
from neverstale.settings import Api

log = telemetry.logger(__name__)

MEDIA_TYPE: Final = "application/x-ndjson"
PIECE_BYTES: Final = 256 << 10
"""So much at a time is handed to the connection, which then waits for its client."""
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


class Broken(Exception):
    """A stream that has begun and cannot go on."""


class Exports:
    """The exports that one process has under way. Every method belongs to its event loop."""

    def __init__(self, loader: Loader, settings: Api) -> None:
        self._loader = loader
        self._places = settings.exports
        self._stall_seconds = settings.export_stall_seconds
        self._streaming: set[asyncio.Task[None]] = set()

    async def run(self, resource: Resource, fields: Sequence[str] | None, receive: Receive, send: Send) -> None:
        """Stream until the end, until the client goes away, or until that breaks off: then the response has no end.

        Raises `Overloaded`, and `Outage` before the first line.
        """
        if len(self._streaming) >= self._places:
            telemetry.EXPORTS.labels(resource.name, "refused").inc()
            raise Overloaded("mongodb")
        streaming = asyncio.create_task(self._stream(resource, fields, send), name=f"export-{resource.name}")
        self._streaming.add(streaming)
        gone = asyncio.create_task(_gone(receive), name="export-client")
        try:
            await asyncio.wait((streaming, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            client_is_there = streaming.done()
            await _cancelled(streaming)
            self._streaming.discard(streaming)
        error = None if streaming.cancelled() else streaming.exception()
        if error is None and not streaming.cancelled():
            outcome = "complete"
        else:
            outcome = "broken" if client_is_there else "gone"
        telemetry.EXPORTS.labels(resource.name, outcome).inc()
        if error is not None and not isinstance(error, Broken):
            raise error
        if outcome == "broken":
            log.warning("export_broken_off", resource=resource.name, reason=str(error or "the process ends"))

    async def finish(self) -> None:
        """Break off all, and wait until their cursors are closed."""
        for streaming in list(self._streaming):
            await _cancelled(streaming)

    async def _stream(self, resource: Resource, fields: Sequence[str] | None, send: Send) -> None:
        lines = self._loader.export(resource, fields)
        begun = False
        async with contextlib.aclosing(lines):
            try:
                async for batch in lines:
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                    await self._hand_over(batch, send)
            except (NeverstaleError, TimeoutError) as error:
                if not begun:
                    raise
                raise Broken(str(error) or "the client reads nothing") from error
        if not begun:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b""})

    async def _hand_over(self, batch: bytes, send: Send) -> None:
        for start in range(0, len(batch), PIECE_BYTES):
            async with asyncio.timeout(self._stall_seconds):
                piece = batch[start : start + PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})


class Export:
    """The ASGI endpoint of one resource. The exports are those that the app's lifespan opened."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields = fields_of(scope["query_string"], self._resource)
        if scope["method"] == "HEAD":
            await Raw(200, list(HEADERS))(scope, receive, send)
            return
        exports: Exports = scope["app"].state.exports
        await exports.run(self._resource, fields, receive, send)


def fields_of(query: bytes, resource: Resource) -> Sequence[str] | None:
    """What `fields=a,b` asks for, or all that is declared; `None`: whole documents. Raises a `Problem`."""
    declared = list(resource.fields) if resource.fields is not None else None
    wanted: list[str] = []
    for name, value in parameters_of(query):
        if name != "fields":
            raise bad_parameter(shown(name), "there is no such parameter; use fields")
        wanted += listed(value, ["_id", *(declared or ())], "fields")
    if not wanted:
        return declared
    return [name for name in dict.fromkeys(wanted) if name != "_id"]


def fields_parameter(resource: Resource) -> dict[str, Any]:
    names = ["_id", *(resource.fields or ())]
    items = {"type": "string", "enum": names}
    return FIELDS_PARAMETER | {"schema": {"type": "array", "items": items, "minItems": 1}, "example": names[-1:]}


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Ask the task to end, once, and wait until it has, whatever happens meanwhile to who waits."""
    if not task.done() and not task.cancelling():
        task.cancel()
    await asyncio.wait((task,))
