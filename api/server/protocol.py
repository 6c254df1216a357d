"""The HTTP protocol of uvicorn with a shorter way for hits.

Uvicorn parses a request, makes a scope of it, and runs an ASGI application in a task. A hit needs none of that: it is
answered from the parser's callback, or, when the request's headers were seen before, without the parser. Everything
else takes the ordinary way, and so does every hit while an answer is under way on the connection, while the client
reads too slowly, and for HTTP/1.0.

Skipping the parser. What a block of header lines means does not depend on the request line before it. So the meaning
of a block is remembered once the parser has read one request that consists of a line and exactly this block, and only
if it is plain (see `neverstale.api.web.demands`). A request that consists of a line as
`neverstale.api.hits.request_lines.LINE` knows it and of such a block needs no parser, provided that the connection's
parser stands between two messages. It does not see such a request.

`HttpToolsProtocol` is no public interface: uvicorn is pinned to a minor version, and tests restate what its own tests
check.
"""

import asyncio
from collections.abc import Coroutine
from time import monotonic
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.server import ServerState

from neverstale.api.callers.addresses import of_peer
from neverstale.api.callers.gate import Badge, Gate, Known
from neverstale.api.hits.fast_path import ELSEWHERE, USUAL, Hot
from neverstale.api.limits.buckets import Bucket, Buckets
from neverstale.api.reads.source import CachedSource
from neverstale.api.server.cycle import ANSWERED, GET, Cycle
from neverstale.api.server.head_guard import GuardedProtocol
from neverstale.api.state import STATE, State
from neverstale.api.web import headers
from neverstale.api.web.demands import PLAIN, Plain, plain_of
from neverstale.api.web.headers import BLANK, CRLF, DOCUMENT
from neverstale.api.web.pieces import LARGE_BYTES
from neverstale.api.web.unread import Holding, hold_for
from neverstale.role import telemetry

log = telemetry.logger(__name__)

BLOCKS: Final = 1024
BLOCK_BYTES: Final = 2048
"""At most so many blocks of header lines, of this size, are remembered."""


class Serving(ServerState):
    """Uvicorn's state of a server that may be about to stop."""

    draining = False


class HotProtocol(GuardedProtocol):
    """Give it to uvicorn as `http=`. Without a `Hot` in the lifespan's state it does what its base does."""

    __slots__ = (
        "_badge",
        "_block",
        "_bucket",
        "_gate",
        "_headers_read",
        "_hot",
        "_known",
        "_last",
        "_limits",
        "_plain",
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        state: State | None = app_state.get(STATE)
        hot = None if state is None else state.hot
        if hot is not None and not (config.access_log or self.limit_concurrency is not None or self.root_path):
            hot.server.serve(server_state)
            self._hot: Hot | None = hot
        else:
            self._hot = None
        self._gate = hot.gate if hot is not None else None
        self._limits = hot.limits if hot is not None else None
        self._badge: Badge | None = None
        """What the headers of this request say of the caller, if there is a gate."""
        self._bucket: Bucket | None = None
        """The bucket of the request that is being answered, with a token in it."""
        self._headers_read = 0
        self._plain: Plain | None = None
        """What the headers of this request mean, if that is known."""
        self._known: Known | None = None
        """The block of header lines of the last request that needed no parser, and what it means: a client sends the
        same ones again."""
        self._block: tuple[bytes, Plain] | None = None
        """The line and the meaning of the last request that was plain."""
        self._last = False
        """Whether the next answer is the last one."""
        if isinstance(server_state, Serving) and server_state.draining:
            self.give_notice()

    def give_notice(self) -> None:
        """Lets the answer that is under way be the last one, if it can still say so, or else the next."""
        self._hot = None
        self._last = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not getattr(cycle, "response_started", False):
            cycle.keep_alive = False

    # --- what comes in

    def data_received(self, data: bytes) -> None:
        hot = self._hot
        if hot is None or self._in_message or not self._free():
            super().data_received(data)
            return
        line, _, block = data.partition(CRLF)
        gate = self._gate
        known = self._known
        if known is None or known[0] != block:  # comparing costs less than looking it up
            known = self._known = (hot.blocks if gate is None else gate.blocks).get(block)
        plain = None
        if known is not None and (gate is None or self._admitted(gate, line, known[2])):
            plain = known[1]
        try:
            if plain is not None and self._answer(hot, line, plain):
                return
        except Exception:
            self._let_go()  # the parser leads to the same again, which tells of it
        self._headers_read = 0
        self._block = None
        super().data_received(data)
        if self._headers_read == 1 and self._block is not None and not self._in_message:
            self._remember(hot, line, block)

    def on_request(self) -> None:
        hot = self._hot
        self._headers_read += 1
        if not self._same:
            self._plain = None
        if hot is not None and self._free() and self._may_go_on():
            if self._plain is None:
                self._plain = plain_of(self.headers)
            try:
                if self._plain is not None and self._answer_plain(hot, self._plain):
                    return
            except Exception as error:
                log.error("fast_path_failed", exc_info=error)
                self._let_go()
        super().on_request()
        if self._last and self.cycle is not None:
            self.cycle.keep_alive = False

    def _answer_plain(self, hot: Hot, plain: Plain) -> bool:
        """Answers what the parser has read."""
        line = b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)
        self._block = (line, plain)
        before = self.cycle
        if self._gate is not None and not self._admits(self._gate.badge_of(self.headers), line):
            return False
        if not self._answer(hot, line, plain):
            return False
        if self.cycle is before:
            self.cycle = ANSWERED
        return True

    def _let_go(self) -> None:
        """The shorter way has failed before it wrote anything: the ordinary one is still there."""
        if self._is_answering():
            self.cycle.disconnected = True  # what may come of it is not written
            self.cycle = ANSWERED

    def _free(self) -> bool:
        """Whether an answer may be written now."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _may_go_on(self) -> bool:
        return (
            self._version == "1.1"
            and self.parser.should_keep_alive()
            # A client may send many requests at once and read no answers.
            and (self._headers_read == 1 or self.transport.get_write_buffer_size() < HIGH_WATER_LIMIT)
        )

    def _remember(self, hot: Hot, line: bytes, block: bytes) -> None:
        """The data was one request: remember what its headers mean, if `block` is exactly those."""
        assert self._block is not None
        parsed, plain = self._block
        whole = len(block) <= BLOCK_BYTES and block.find(BLANK) == len(block) - 4
        if parsed == line and whole:
            if self._gate is not None:
                if self._badge is not None:
                    self._gate.remember(block, plain, self._badge)
                return
            if len(hot.blocks) >= BLOCKS:
                hot.blocks.clear()
            hot.blocks[block] = block, plain, None

    # --- callers; where all is open and nothing limited none of this is called

    def _admitted(self, gate: Gate, line: bytes, badge: Badge) -> bool:
        """Whether who sent the headers is believed still, and may have what the line names."""
        if badge.age is not gate.age or gate.clock() >= badge.until:
            return False
        self._badge = badge
        if not (badge.all_hits or gate.lines.get(line) in badge.hits or badge.may_have(line)):
            return False
        return self._limits is None or self._may_spend(self._limits, badge)

    def _admits(self, badge: Badge | None, line: bytes) -> bool:
        """Whether the caller may have what the line names, and has a token here. Else it is for the middlewares to
        verify the credentials, to wait for a token, or to refuse."""
        self._badge = badge
        if badge is None or not badge.may_have(line):
            return False
        return self._limits is None or self._may_spend(self._limits, badge)

    def _may_spend(self, limits: Buckets, badge: Badge) -> bool:
        self._bucket = limits.spendable(badge.bucket or of_peer(self.client))
        return self._bucket is not None

    def _own_lines(self, badge: Badge) -> bytes:
        """The header lines of an answer to this caller alone. They cost a token."""
        spent = self._limits.spend(self._bucket) if self._limits is not None and self._bucket is not None else b""
        return spent + badge.lines

    # --- what goes out

    def hold(self) -> Holding:
        """Returns what accounts for the bytes of an answer that the client has not read yet."""
        return hold_for(self.app_state)

    def start_sending(self, work: Coroutine[Any, Any, None]) -> None:
        """Uvicorn waits for it before it ends."""
        task = self.loop.create_task(work, name="send")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _answer(self, hot: Hot, line: bytes, plain: Plain) -> bool:
        """Answers now or soon; False: not here."""
        tail = hot.look(line, plain)
        if tail is not None:
            if len(tail) > LARGE_BYTES:
                return self._answer_large(hot, line, plain, tail)
            now = monotonic()
            badge = self._badge
            shared = hot.shared if badge is None or not badge.private else hot.private
            if now >= shared.until:
                shared.renew(now)
            if plain is PLAIN:
                text = (shared.found if tail[0] == DOCUMENT else shared.absent) + tail
            else:
                status, tail = hot.choose(plain, tail)
                if status not in USUAL:
                    hot.unusual[line, status] = hot.unusual.get((line, status), 0) + 1
                text = shared.beginning(status, now) + tail
            if line[0] != GET:
                text = headers.without_body(text)
            if badge is not None and (badge.lines or self._limits is not None):
                text = headers.with_lines(text, self._own_lines(badge))
            self.transport.write(text)
            self.answered(now)
            return True
        found = hot.find(line)
        if found is None:
            return False
        source, key = found
        hot.start(self._begin(hot, line, plain, source, key))
        return True

    def _answer_large(self, hot: Hot, line: bytes, plain: Plain, tail: bytes) -> bool:
        """From L1, too, but in pieces."""
        found = hot.find(line)
        if found is None:
            return False
        cycle = self._begin(hot, line, plain, *found)
        status, tail = hot.choose(plain, tail)
        cycle.send(status, tail, hot.private if cycle.private else hot.shared)
        hot.unusual[line, ELSEWHERE] = hot.unusual.get((line, ELSEWHERE), 0) + 1
        return True

    def _begin(self, hot: Hot, line: bytes, plain: Plain, source: CachedSource, key: Any) -> Cycle:
        cycle = Cycle(self, hot, source, key, line, plain)
        if (badge := self._badge) is not None:
            cycle.private = badge.private
            cycle.own_lines = self._own_lines(badge)
        self.cycle = cycle  # type: ignore[assignment]  # to uvicorn it is one of its own
        return cycle

    def answered(self, now: float) -> None:
        """What is left to do when no other answer waits for this one. `now`: monotonic seconds."""
        self.server_state.total_requests += 1
        self._active = now

    def _end_after(self, text: bytes) -> None:
        self._hot = None
        super()._end_after(text)
