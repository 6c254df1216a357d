"""Serves the board on a port of loopback: the page, the switch, and, as they are, the answers of the API.

So the page and what it reads have one origin, and the API knows nothing of the board. A request below `/v1/` is
handed on with its connection, byte by byte, so a stream stays one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import orjson

from neverstale.ops.demo.page.switch import FreezeSwitch
from neverstale.ops.stack.ports import LOOPBACK
from neverstale.role.tasks import cancelled

HEAD_BYTES: Final = 32 << 10
BODY_BYTES: Final = 1 << 10
PIECE_BYTES: Final = 64 << 10
PATIENCE_SECONDS: Final = 10.0
_FILES: Final = {
    "/": ("board.html", "text/html; charset=utf-8"),
    "/board.css": ("board.css", "text/css; charset=utf-8"),
    "/board.js": ("board.js", "text/javascript; charset=utf-8"),
}
_SECURE: Final = (
    "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\ncache-control: no-store\r\n"
)


@dataclass(frozen=True, slots=True)
class BoardRequest:
    method: str
    path: str
    headers: Mapping[str, str]
    head: bytes
    """As it came."""


class BoardServer:
    """`board`: what the page is told of the demo, besides the switch."""

    def __init__(self, api_port: int, switch: FreezeSwitch, board: Callable[[], Mapping[str, Any]]) -> None:
        self._api_port = api_port
        self._switch = switch
        self._board = board
        self._port = 0
        self._pages = {
            path: (files("neverstale.ops.demo.page").joinpath(name).read_bytes(), media_type)
            for path, (name, media_type) in _FILES.items()
        }
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """The page's address, as long as the block lasts; `port` 0: a free one. Nothing is frozen at its end."""
        server = await asyncio.start_server(self._serve, LOOPBACK, port, limit=HEAD_BYTES)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://{LOOPBACK}:{self._port}/"
        finally:
            self._switch.turn(frozen=False)
            server.close()
            for writer in self._open.values():
                writer.transport.abort()  # then each of them ends
            if self._open:
                await asyncio.wait(list(self._open))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            with contextlib.suppress(OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, ValueError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    request = parsed(await reader.readuntil(b"\r\n\r\n"))
                if request.path.startswith("/v1/"):
                    await self._hand_on(request, reader, writer)
                else:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        writer.write(await self._answer(request, reader))
                        await writer.drain()
        finally:
            del self._open[task]
            writer.close()

    async def _answer(self, request: BoardRequest, reader: asyncio.StreamReader) -> bytes:
        if not self._is_ours(request):
            return answer(403, b"This page answers only itself.", "text/plain")
        if request.path == "/board.json" and request.method == "GET":
            told = {**self._board(), "frozen": self._switch.frozen}
            return answer(200, orjson.dumps(told), "application/json")
        if request.path == "/freeze" and request.method == "POST":
            said = orjson.loads(await reader.readexactly(min(int(request.headers["content-length"]), BODY_BYTES)))
            self._switch.turn(frozen=said["frozen"] is True)
            return answer(200, orjson.dumps({"frozen": self._switch.frozen}), "application/json")
        found = self._pages.get(request.path)
        if found is None or request.method != "GET":
            return answer(404, b"There is nothing here.", "text/plain")
        return answer(200, *found)

    def _is_ours(self, request: BoardRequest) -> bool:
        """Whether no page of somebody else asks, under whatever name: this is a switch."""
        hosts = [f"{name}:{self._port}" for name in (LOOPBACK, "localhost")]
        origin = request.headers.get("origin")
        host = request.headers.get("host")
        asked = request.method != "POST" or request.headers.get("content-type") == "application/json"
        return asked and host in hosts and (origin is None or origin == f"http://{host}")

    async def _hand_on(
        self, request: BoardRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not self._is_ours(request):
            writer.write(answer(403, b"This page answers only itself.", "text/plain"))
            return
        from_api, to_api = await asyncio.open_connection(LOOPBACK, self._api_port)
        try:
            line, _, rest = request.head.partition(b"\r\n")
            to_api.write(line + b"\r\nConnection: close\r\n" + _without_connection(rest))
            both = [asyncio.ensure_future(_pipe(from_api, writer)), asyncio.ensure_future(reader.read(1))]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await cancelled(*both)
        finally:
            to_api.close()


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(PIECE_BYTES):
            target.write(piece)
            await target.drain()


def _without_connection(lines: bytes) -> bytes:
    kept = [line for line in lines.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join(kept)


def parsed(head: bytes) -> BoardRequest:
    """Raises `ValueError` if it is no request."""
    line, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ")
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return BoardRequest(method, target.partition("?")[0], headers, head)


def answer(status: int, body: bytes, media_type: str) -> bytes:
    reason = {200: "OK", 403: "Forbidden", 404: "Not Found"}[status]
    head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\n{_SECURE}"
    return f"{head}connection: close\r\n\r\n".encode() + body
