"""Uvicorn's HTTP protocol with limits on what comes before a request is one: how large its head may be, and how long
it may take. Without them a client may send header lines for ever, or one byte now and then.

What is no request is answered with problem details after all that was asked before it, and the connection is closed.
So it is when something fails in here: no request is dropped without an answer. Upgrades to another protocol are
ignored (RFC 9110, section 7.8): the request is answered, and so is what follows it.
"""

import asyncio
from time import monotonic
from typing import Any, Final

import httptools

from neverstale.api.server.deadlines import TimedProtocol
from neverstale.api.server.heard import LARGE_HEAD_BYTES
from neverstale.api.server.open_files import TURNED_AWAY
from neverstale.api.server.request_heads import body_head, origin_form, wrong_with
from neverstale.api.state import STATE, State
from neverstale.api.web import headers, problems
from neverstale.api.web.headers import BLANK
from neverstale.api.web.problems import Problem
from neverstale.role import telemetry

log = telemetry.logger(__name__)

LINGER_BYTES: Final = 1 << 20
"""What is thrown away after a refusal; who sends more is reset."""
BODIES: Final = frozenset((b"POST", b"QUERY"))
"""Methods whose requests say in a body what they want."""
HEADS_A_TURN: Final = 64
"""Requests that one client has sent together keep others waiting no longer than these take."""


class _Refused(Exception):
    """The parser must not go on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class GuardedProtocol(TimedProtocol):
    __slots__ = (
        "_body_head",
        "_checked",
        "_farewell",
        "_head_open",
        "_head_size",
        "_heard",
        "_heard_by",
        "_in_body",
        "_in_message",
        "_led",
        "_message_bytes",
        "_reads_body",
        "_refused",
        "_rest",
        "_same",
        "_trailer_lines",
        "_version",
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Versions are told apart when the head is complete: one that we do not speak is another error than nonsense.
        self.parser.set_dangerous_leniencies(lenient_version=True)
        self._refused = False
        """Nothing more is read."""
        self._farewell: bytes | None = None
        """A refusal that waits for the answers before it; empty: nothing is left to say."""
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
        self._in_message = False
        """The parser has read a part of a request."""
        self._reads_body = False
        """It may say in a body what is wanted."""
        self._in_body = False
        """Its head is complete, and it is not: it is answered, or will be."""
        self._message_bytes = 0
        """Of the head, or of what follows it."""
        self._trailer_lines = 0
        self._rest = b""
        """What came behind a request that is being answered; reading is paused."""
        state: State | None = self.app_state.get(STATE)
        self._heard_by = None if state is None else state.heard
        self._heard = 0
        """Bytes, as they were noted last."""
        self._head_size = 0
        """Of the last head, if it was large."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.clients.connections:
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._rest, self._head_size, self._in_message = b"", 0, False
        self._note_heard()

    def _note_heard(self) -> None:
        held = len(self._rest) + self._head_size + (self._message_bytes if self._in_message else 0)
        if held != self._heard and self._heard_by is not None:
            self._heard = held
            self._heard_by.note(self, held)

    # --- one request after the other

    def data_received(self, data: bytes) -> None:
        self._hear(data)
        self._note_heard()

    def _hear(self, data: bytes) -> None:
        if self._refused:
            self._message_bytes += len(data)
            if self._message_bytes > LINGER_BYTES:
                self.transport.abort()
        elif self._rest or self._must_wait():
            self._rest += data
            self.flow.pause_reading()
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Reads on, at most one head at a time; what is behind a request that is not answered yet waits."""
        at, heads_read = 0, 0
        while at < len(data):
            end = data.find(BLANK, at) + len(BLANK)
            piece = data[at:end] if len(BLANK) <= end < len(data) else data[at:] if at else data
            at += len(piece)
            heads_read += 1
            self._read(piece)
            if self._refused or self.transport.is_closing():
                return
            if at < len(data) and (heads_read >= HEADS_A_TURN or self._must_wait()):
                self._rest = data[at:]
                self.flow.pause_reading()
                if not self._is_answering():
                    self.loop.call_soon(self._go_on)
                return

    def _go_on(self) -> None:
        if self._refused or self.transport.is_closing() or self._must_wait():
            return
        rest, self._rest = self._rest, b""
        self._take(rest)
        if not (self._rest or self._refused or self.transport.is_closing()):
            self.flow.resume_reading()
        self._note_heard()

    def _must_wait(self) -> bool:
        return not self._in_message and self._is_answering()

    def _read(self, data: bytes) -> None:
        was_in_body = self._in_body
        self._feed(data)
        if not self._in_message or self._refused or self.transport.is_closing():
            return
        # What was read together with the end of a head counts as a part of what follows.
        self._message_bytes += len(data)
        if self._head_open:
            if self._head_since is None:
                self._head_since = monotonic()
            if self._message_bytes > self.clients.head_bytes:
                self._refuse(problems.head_too_large())
        elif was_in_body and self._message_bytes > self.clients.body_bytes:
            self._hear_no_more()

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
                if self._in_body:
                    self._hear_no_more()  # another answer would be taken for the next request's
                else:
                    self._refuse(_problem_of(error))
                return

    def on_message_begin(self) -> None:
        if self._led:
            self.headers = []  # those of the head that leads to a body are nobody's
            return
        self._in_message = self._head_open = True
        self._in_body = False
        self._message_bytes = self._trailer_lines = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_open or self._led:
            super().on_header(name, value)
            return
        # A trailer (RFC 9110, section 6.5). Nothing is done with it, and nobody must be able to have us keep it.
        self._trailer_lines += 1
        if self._trailer_lines > self.clients.head_lines:
            raise _Refused(problems.head_too_large())

    def on_headers_complete(self) -> None:
        if self._led:
            self._led = False
            return
        self._end_head()
        parser = self.parser
        self._reads_body = parser.get_method() in BODIES
        self._version = parser.get_http_version()
        self._same = self.headers == self._checked and self._version == "1.1"
        if not self._same:
            problem = wrong_with(self._version, self.headers) or self._too_large()
            if problem is not None:
                raise _Refused(problem)
            self._checked = self.headers
        if len(self.url) >= self.clients.head_bytes:
            raise _Refused(problems.head_too_large())
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise _Refused(problems.method_not_allowed())
            self._body_head = body_head(self.headers)
        if not self.url.startswith(b"/"):
            self.url = origin_form(self.url)
        self.on_request()
        self._in_body = True

    def on_request(self) -> None:
        """The head of a request is complete, and nothing is wrong with it."""
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Throws it away, unless it may say what is wanted."""
        if self._reads_body:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._body_head:  # else its body follows
            self._in_message = self._in_body = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._active = monotonic()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._farewell is not None:
            self._end_with(self._farewell)
        elif self._rest:
            self.loop.call_soon(self._go_on)
        else:
            self.flow.resume_reading()

    def _should_upgrade(self) -> bool:
        return False

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _too_large(self) -> Problem | None:
        """What is wrong with the size of a complete head, and of the body that it announces."""
        clients, size = self.clients, 0
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"content-length" and value.isdigit() and int(value) > clients.body_bytes:
                return problems.body_too_large()
        self._head_size = size if size > LARGE_HEAD_BYTES else 0
        if size >= clients.head_bytes or len(self.headers) > clients.head_lines:
            return problems.head_too_large()
        return None

    def _end_head(self) -> None:
        self._head_open = False
        self._head_since = None
        self._message_bytes = 0

    def on_late_head(self) -> None:
        self._refuse(problems.head_too_slow())

    def _turn_away(self) -> None:
        """There is no room for this connection. So many are told so that no crowd of these costs much, either."""
        telemetry.CONNECTIONS_CUT.labels("crowd").inc()
        if len(self.connections) > self.clients.connections + TURNED_AWAY:
            self._refused = True
            self.transport.abort()
        else:
            self._refuse(problems.too_many_connections())

    def _hear_no_more(self) -> None:
        """A body, or its trailers, have no end, and the answer is written or on its way."""
        if self._is_answering() and not getattr(self.cycle, "response_started", False):
            self.cycle.keep_alive = False
        self._end_after(b"")

    def _refuse(self, problem: Problem) -> None:
        """Answers when all that was asked before is answered, and closes. Nothing more is read."""
        self._end_head()
        if self._refused or self.transport.is_closing():
            return
        response = problem.response()
        lines = headers.lines([*self.server_state.default_headers, *response.raw_headers])
        body = b"" if self.parser.get_method() == b"HEAD" else bytes(response.body)
        end = b"connection: close" + BLANK + body
        self._end_after(b"".join((headers.status_line(problem.status), lines, end)))

    def _end_after(self, text: bytes) -> None:
        """Lets this be the last that is said, after the answers that are under way; nothing more is read."""
        self._refused = True
        if self._is_answering():
            self._farewell = text
            self.flow.pause_reading()
        else:
            self._end_with(text)

    def _end_with(self, text: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(text)
            self._message_bytes = 0
            self.flow.resume_reading()
            self.close_softly()


def _problem_of(error: Exception) -> Problem:
    """What is wrong with a request: the parser says so, or one of its callbacks; else it is a mistake of ours."""
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
    if isinstance(cause, _Refused):
        return cause.problem
    if isinstance(cause, httptools.HttpParserError):
        return problems.malformed()
    log.error("request_failed", exc_info=cause)
    return problems.internal()
