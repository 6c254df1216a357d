"""Uvicorn's HTTP protocol with limits on what comes before a request is one: how large its head may be, and how long
it may take. Without them a client may send header lines for ever, or one byte now and then.

What is no request is answered with problem details, and the connection is closed.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api import heads, problems
from api.heads import BLANK
from api.problems import Problem

HEAD_BYTES: Final = 64 << 10
"""A request line and header lines may have so many, and what was read together with their end."""
HEAD_SECONDS: Final = 10.0
"""From the first byte of a head to its last, and from a new connection to its first byte."""


class GuardedProtocol(HttpToolsProtocol):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_open = False
        """A head has begun and is not complete."""
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # which uvicorn does not do for a connection that was reset

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._head_open or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._refuse(problems.head_too_large())
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_late)

    def on_message_begin(self) -> None:
        self._end_head()
        self._head_open = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._end_head()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(problems.malformed())

    def _end_head(self) -> None:
        self._head_open = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if self._head_open:
            self._refuse(problems.head_too_slow())
        elif self.cycle is None and self.timeout_keep_alive_task is None:
            self.transport.close()  # nothing was ever asked

    def _refuse(self, problem: Problem) -> None:
        """Answer, unless that would break into an answer that is under way, and close."""
        self._end_head()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            response = problem.response()
            lines = heads.lines([*self.server_state.default_headers, *response.raw_headers])
            end = b"connection: close" + BLANK + bytes(response.body)
            self.transport.write(b"".join((heads.status_line(problem.status), lines, end)))
        self.transport.close()
