"""Uvicorn's HTTP protocol with a deadline for every state of a connection.

    nothing asked yet · half a head · half a body · idle after an answer · an answer that the client reads
    more slowly than it is written · closing, with something unsent

One timer for each connection looks which of them it is in, and since when; nothing is set or cancelled while
requests are answered. What a client sends between two requests moves no deadline: only a head does, and an answer.
"""

import asyncio
import contextlib
import socket
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from neverstale.api.state import STATE, State
from neverstale.api.web.unread import CLIENT
from neverstale.role import telemetry
from neverstale.settings import Clients

TAKEN_BYTES: Final = 16 << 10
"""A client that is being answered must take as much within `clients.stall_seconds`, or all that there is."""
LINGER_SECONDS: Final = 1.0
"""What a client goes on to send after its last answer is thrown away for so long: closed at once, the connection
would be reset, and the answer lost with it."""
LEAST_SECONDS: Final = 0.02
"""Between two looks."""
STREAM_BYTES: Final = 16 << 10
"""A stream whose client has not taken so many is not written to."""
LAST_CHUNK: Final = b"0\r\n\r\n"


class _Streaming:
    """What uvicorn meets in place of a request whose answer has no end."""

    def __init__(self) -> None:
        self.response_started = True
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = False
        self.message_event = asyncio.Event()


STREAMING: Final = cast("RequestResponseCycle", _Streaming())


class TimedProtocol(HttpToolsProtocol):
    """It is a `Client`, too (see `neverstale.api.web.unread`)."""

    __slots__ = (
        "_active",
        "_ends",
        "_head_since",
        "_looks",
        "_made",
        "_stands",
        "_stream",
        "_unread",
        "_unsent",
        "_window",
        "clients",
    )
    """Looked up faster than what lies in a dictionary, as soon as an object has more than thirty attributes."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        state: State | None = self.app_state.get(STATE)
        self.clients = Clients(keep_alive_seconds=self.timeout_keep_alive) if state is None else state.clients
        self._unread = None if state is None else state.unread
        # Of a copy, which every request's scope copies again.
        self.app_state = {**self.app_state, CLIENT: weakref.ref(self)}
        self._looks: asyncio.TimerHandle | None = None
        self._made = self._active = 0.0
        """Monotonic seconds of the connection's beginning, and of its last answer."""
        self._head_since: float | None = None
        """A head has begun then, and is not complete."""
        self._ends: float | None = None
        """The last answer is written; the connection is closed then, or earlier by the client."""
        self._stands = 0.0
        self._unsent = 0
        """Since when the client has taken nothing, and what was unsent then."""
        self._window: tuple[float, int] | None = None
        """When a client began to read more slowly than it is written to, or was found to be on time; and what was
        unsent then."""
        self._stream: tuple[Callable[[], None], Callable[[], None]] | None = None
        """Of an answer without an end: whom to tell that the client has read all, and that it is gone."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._made = self._active = monotonic()
        self._looks = self.loop.call_later(self._period, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._looks is not None:
            self._looks.cancel()
            self._looks = None
        if self._unread is not None:
            self._unread.drained(self)
        if self._stream is not None:
            gone, self._stream = self._stream[1], None
            gone()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stands, self._unsent = monotonic(), self.unsent()
        self._window = self._stands, self._unsent
        if self._unread is not None:
            self._unread.buffered(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._window = None
        if self._unread is not None:
            self._unread.drained(self)
        if self._stream is not None:
            self._stream[0]()

    # --- answers without an end (see `api.live.streams`)

    def begin_stream(self, writable: Callable[[], None], gone: Callable[[], None]) -> None:
        """The answer that has begun goes on without its application, until `end_stream` or until the client is gone.
        From now on these are called when all that was written is taken, and when the client is gone."""
        if self.transport.is_closing():
            gone()
            return
        self.cycle.disconnected = True  # the application may end: nobody waits for more of it
        self.cycle = STREAMING
        self._stream = writable, gone
        self.transport.set_write_buffer_limits(STREAM_BYTES)
        connection = self.transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            # Little is written between two states: it would take a quarter of an hour to notice a vanished client.
            with contextlib.suppress(OSError):
                patience_ms = round(self.clients.stall_seconds * 1000)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)

    def end_stream(self, chunk: bytes) -> None:
        """Writes the last of the answer, and closes. Whoever has not read what was before it gets no end."""
        self._stream = None
        if self.takes:
            self.transport.write(chunk + LAST_CHUNK)
            self.transport.close()
        else:
            self.cut_off()

    @property
    def takes(self) -> bool:
        """Whether a stream may be written to: the client has read all that was."""
        return not (self.flow.write_paused or self.transport.is_closing())

    def write_stream(self, chunk: bytes) -> None:
        self.transport.write(chunk)

    # --- as others see it

    def unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def stands_since(self) -> float:
        unsent = self.unsent()
        if unsent < self._unsent:
            self._stands = monotonic()
        self._unsent = unsent
        return self._stands

    def cut_off(self) -> None:
        self.transport.abort()

    # --- deadlines

    @property
    def _period(self) -> float:
        """No state ends sooner after it has begun."""
        clients = self.clients
        shortest = min(clients.head_seconds, clients.keep_alive_seconds, clients.stall_seconds)
        return max(shortest, LEAST_SECONDS)

    def _look(self) -> None:
        now = monotonic()
        left = self._period
        if self.flow.write_paused or self.transport.is_closing():
            if self._is_too_slow(now):
                telemetry.CONNECTIONS_CUT.labels("reading").inc()
                self._looks = None
                self.cut_off()
                return
        elif self.cycle is None or self.cycle.response_complete:
            left = min(self._deadline() - now, left)
            if left <= 0:
                self._too_late()
        self._looks = self.loop.call_later(max(left, LEAST_SECONDS), self._look)

    def _is_too_slow(self, now: float) -> bool:
        unsent = self.unsent()
        if self._window is None:
            self._window = now, unsent
        began, before = self._window
        if now - began < self.clients.stall_seconds:
            return False
        self._window = now, unsent
        return before - unsent < TAKEN_BYTES

    def _deadline(self) -> float:
        """Of a connection on which nothing is being answered."""
        if self._ends is not None:
            return self._ends
        if self._head_since is not None:
            return self._head_since + self.clients.head_seconds
        if self._active == self._made:
            return self._made + self.clients.head_seconds
        return self._active + self.clients.keep_alive_seconds

    def _too_late(self) -> None:
        if self._head_since is None or self._ends is not None:
            telemetry.CONNECTIONS_CUT.labels("idle").inc()
            self.transport.close()
        else:
            telemetry.CONNECTIONS_CUT.labels("head").inc()
            self.on_late_head()

    def on_late_head(self) -> None:
        """A head is not complete, and its time is over."""
        raise NotImplementedError

    def close_softly(self) -> None:
        """Nothing more will be written: close when the client does, but soon."""
        self._ends = monotonic() + LINGER_SECONDS
        self._head_since = None
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.write_eof()
        if self._looks is not None:
            self._looks.cancel()
        self._looks = self.loop.call_later(LINGER_SECONDS, self._look)
