"""Uvicorn's HTTP protocol with limits on what comes before a request is one: how large its head may be, and how long
it may take. Without them a client may send header lines for ever, or one byte now and then.

What is no request is answered with problem details after all that was asked before it, and the connection is closed.
So it is when something fails in here: no request is dropped without an answer. Upgrades to another protocol are
ignored (RFC 9110, section 7.8): the request is answered, and so is what follows it.
"""

import asyncio
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api import heads, problems
from api.heads import BLANK
from api.problems import Problem
from api.request_heads import body_head, origin_form, wrong_with
from neverstale import telemetry

log = telemetry.logger(__name__)

HEAD_BYTES: Final = 64 << 10
"""A request line and header lines may have so many, and what was read together with their end."""
HEAD_SECONDS: Final = 10.0
"""From the first byte of a head to its last, and from a new connection to its first byte."""


class _Refused(Exception):
    """The parser must not go on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class GuardedProtocol(HttpToolsProtocol):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Versions are told apart when the head is complete: one that we do not speak is another error than nonsense.
        self.parser.set_dangerous_leniencies(lenient_version=True)
        self._refused = False
        """Nothing more is read."""
        self._farewell: bytes | None = None
        """A refusal that waits for the answers before it."""
        self._version = ""
        """Of the request that is being read."""
        self._checked: list[tuple[bytes, bytes]] | None = None
        """The headers of the last request, with which nothing was wrong."""
        self._same = False
        """This request has the same, as most that follow one another have."""
        self._body_head = b""
        """What leads the parser to a body that it is about to skip."""
        self._led = False
        """It reads that."""
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
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._feed(data)
        if not self._head_open or self._refused or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._refuse(problems.head_too_large())
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_late)

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as ignored:
                # The parser has skipped the body, if there is one, and goes on behind it only if it is led there.
                data = self._body_head + data[ignored.args[0] :]
                self._led, self._body_head = bool(self._body_head), b""
            except Exception as error:
                self._refuse(_problem_of(error))
                return

    def on_message_begin(self) -> None:
        if self._led:
            self.headers = []  # those of the head that leads to a body are nobody's
            return
        self._end_head()
        self._head_open = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._led:
            self._led = False
            return
        self._end_head()
        parser = self.parser
        self._version = parser.get_http_version()
        self._same = self.headers == self._checked and self._version == "1.1"
        if not self._same:
            problem = wrong_with(self._version, self.headers)
            if problem is not None:
                raise _Refused(problem)
            self._checked = self.headers.copy()  # trailers are added to the other
        if len(self.url) >= HEAD_BYTES:
            raise _Refused(problems.head_too_large())
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise _Refused(problems.method_not_allowed())
            self._body_head = body_head(self.headers)
        if not self.url.startswith(b"/"):
            self.url = origin_form(self.url)
        self.on_request()

    def on_request(self) -> None:
        """The head of a request is complete, and nothing is wrong with it."""
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._body_head:  # else its body follows
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._farewell is not None and not self._is_answering():
            self._end_with(self._farewell)

    def _should_upgrade(self) -> bool:
        return False

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

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
        """Answer when all that was asked before is answered, and close. Nothing more is read."""
        self._end_head()
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        response = problem.response()
        lines = heads.lines([*self.server_state.default_headers, *response.raw_headers])
        body = b"" if self.parser.get_method() == b"HEAD" else bytes(response.body)
        end = b"connection: close" + BLANK + body
        text = b"".join((heads.status_line(problem.status), lines, end))
        if self._is_answering():
            self._farewell = text
            self.flow.pause_reading()
        else:
            self._end_with(text)

    def _end_with(self, text: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(text)
            self.transport.close()


def _problem_of(error: Exception) -> Problem:
    """What is wrong with a request: the parser says so, or one of its callbacks; else it is a mistake of ours."""
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
    if isinstance(cause, _Refused):
        return cause.problem
    if isinstance(cause, httptools.HttpParserError):
        return problems.malformed()
    log.error("request_failed", exc_info=cause)
    return problems.internal()
