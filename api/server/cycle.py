"""One request that the reader answers on a connection: to us an ask, to uvicorn a cycle like any other.

Uvicorn looks at a connection's cycle to see whether its request is answered; some attributes are only for that.
"""

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from neverstale.api.hits.fast_path import Hot, WireAsk, as_text, closing
from neverstale.api.reads.source import CachedSource
from neverstale.api.web import headers
from neverstale.api.web.demands import Plain
from neverstale.api.web.headers import BLANK, SharedHeaders
from neverstale.api.web.pieces import LARGE_BYTES, pieces
from neverstale.api.web.problems import Problem
from neverstale.api.web.responses import ReadyResponse, raw

if TYPE_CHECKING:
    from neverstale.api.server.protocol import HotProtocol

GET: Final = b"G"[0]
"""How the line of a `GET` begins; the other is `HEAD`."""


class _Nothing:
    """Nobody waits for messages of a request without a body."""

    def set(self) -> None: ...


class Cycle(WireAsk):
    """A request that is being answered by the reader, to uvicorn a cycle like any other."""

    __slots__ = (
        "_protocol",
        "began",
        "body",
        "disconnected",
        "keep_alive",
        "message_event",
        "more_body",
        "own_lines",
        "response_complete",
        "response_started",
    )

    def __init__(
        self,
        protocol: "HotProtocol",
        hot: Hot,
        source: CachedSource,
        key: Any,
        line: bytes,
        plain: Plain,
    ) -> None:
        WireAsk.__init__(self, hot, source, key, line, plain)
        self._protocol = protocol
        self.began = 0.0
        """Monotonic seconds, if it is measured."""
        self.body = b""
        self.disconnected = False
        self.keep_alive = True
        self.own_lines = b""
        self.message_event = _NOTHING
        self.more_body = False
        self.response_complete = False
        self.response_started = False

    def send(self, status: int, tail: bytes, shared: SharedHeaders) -> None:
        now = monotonic()
        start = shared.beginning(status, now)
        if self.line[0] != GET:
            tail = headers.without_body(tail)
        if len(tail) > LARGE_BYTES:
            self._protocol.start_sending(self._send_in_pieces(status, start, tail))
        else:
            self._hot.count(self.source, status)
            self._write(start + tail, now)

    async def _send_in_pieces(self, status: int, start: bytes, tail: bytes) -> None:
        protocol, length = self._protocol, tail.index(BLANK) + 4
        with protocol.hold() as holding:
            try:
                holding.add((tail,))
            except Problem as full:
                self.send_raw(raw(full))
                return
            self._hot.count(self.source, status)
            head = start + tail[:length]
            if self.own_lines:
                head = headers.with_lines(head, self.own_lines)
            self.response_started = True
            protocol.transport.write(head if self.keep_alive else closing(head))
            for piece in pieces((tail,), length):
                await protocol.flow.drain()
                if self.disconnected or protocol.transport.is_closing():
                    self._complete()
                    return
                protocol.transport.write(piece)
                await asyncio.sleep(0)
        self._complete()
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()

    def send_raw(self, response: ReadyResponse) -> None:
        bodiless = self.line[0] != GET
        self._hot.count(self.source, response.status_code)
        self._write(as_text(response, self._hot.server.text(), close=False, bodiless=bodiless), monotonic())

    def _write(self, text: bytes, now: float) -> None:
        protocol = self._complete()
        transport = protocol.transport
        if self.disconnected or transport.is_closing():
            return
        if self.own_lines:
            text = headers.with_lines(text, self.own_lines)
        if self.keep_alive and not protocol.pipeline and not protocol.flow.read_paused:
            transport.write(text)
            protocol.answered(now)
            return
        transport.write(text if self.keep_alive else closing(text))
        if not self.keep_alive:
            transport.close()
        protocol.on_response_complete()

    def _complete(self) -> "HotProtocol":
        """Lets go of the protocol, which refers to us, or only the collector would ever free the two."""
        self.response_complete = True
        protocol = self._protocol
        del self._protocol
        return protocol


class _Answered(Cycle):
    """What the parser's callbacks meet after a request that was answered at once."""

    def __init__(self) -> None:
        self.message_event = _NOTHING
        self.response_complete = True
        self.disconnected = False


_NOTHING: Final = _Nothing()
ANSWERED: Final = cast("RequestResponseCycle", _Answered())
