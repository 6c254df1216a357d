"""Hits before ASGI: from a request line to the bytes of a response, through L1 or the reader.

There is no connection in it. The protocol and the pure-ASGI app hand a `Request` over and get it answered; both are
given the same bytes.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NoReturn, TypeAlias

from api.freshness.bound import Bounds
from api.freshness.watermark import Evidence
from api.hits.request_lines import LINE, PageLines, PageTarget, Target, spellings
from api.limits.buckets import Buckets
from api.reads.answer import Answer
from api.reads.ask import Ask
from api.reads.fills import BODY_BYTES
from api.reads.l1 import L1, Reading
from api.reads.read_counts import ReadCounts, taken
from api.reads.reader import Reader
from api.web import headers
from api.web.compression import FROM_BYTES, Compressed
from api.web.demands import PLAIN, Plain
from api.web.headers import BLANK, CRLF, DOCUMENT, ETAG, ServerHeader, SharedHeaders
from api.web.pieces import LARGE_BYTES
from api.web.problems import Problem, internal, of_error, stopping, unknown_key
from api.web.responses import L1_HIT, L2_HIT, ReadyResponse, cache_status, raw
from neverstale.errors import NeverstaleError
from neverstale.redis.entries import facts_of_hit
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.versions import Version, to_hex

log = telemetry.logger(__name__)

AnyTarget: TypeAlias = Target | PageTarget

COUNT_SECONDS: Final = 0.5
LINES_A_TURN: Final = 50
"""So many are told of between two turns of the event loop: requests wait for a fraction of a millisecond."""


class Request(ABC):
    """A plain get that L1 could not answer. It is the reader's `Get`, and the future of its own `Ask`."""

    __slots__ = ("_hot", "_large", "_segment", "entry_key", "line", "place", "plain", "settled", "target")

    def __init__(
        self, hot: "Hot", target: AnyTarget, segment: bytes, entry_key: bytes, line: bytes, plain: Plain
    ) -> None:
        self.entry_key = entry_key
        self.line = line
        self.place = target.place
        self.plain = plain
        self.settled = False
        self.target = target
        self._hot = hot
        self._large: bytes | None = None
        """The tail of an answer that is too large for Redis."""
        self._segment = segment

    @abstractmethod
    def send(self, status: int, tail: bytes, moment: SharedHeaders) -> None:
        """Answer with a document or its absence."""

    @abstractmethod
    def send_raw(self, response: ReadyResponse) -> None:
        """Answer with anything else."""

    # --- for the reader

    def hit(self, entry: bytes, evidence: Evidence, reading: Reading | None) -> None:
        hot, plain = self._hot, self.plain
        self.settled = True
        try:
            tail = (
                hot.large_tail(self.target, entry)
                if len(entry) > LARGE_BYTES
                else hot.tail(self.target, *facts_of_hit(entry))
            )
            if tail[0] == DOCUMENT and self.target.counted:
                hot.tally.saw(self.entry_key)
            if reading is not None:
                hot.keep(reading, self, tail)
            status, tail = (200, tail) if plain is PLAIN and tail[0] == DOCUMENT else hot.choose(plain, tail)
            moment = hot.moment_of(evidence.watermark, L2_HIT)
        except Exception as error:
            self.set_exception(error)  # and the others of this batch get what is theirs
        else:
            self.send(status, tail, moment)

    def ask(self) -> Ask:
        ask = self.target.ask(self._segment, self.entry_key, self)
        ask.keep = self._keep
        return ask

    def _keep(self, reading: Reading | None) -> bool:
        tail, self._large = self._large, None
        if tail is not None and reading is not None:
            self._hot.keep(reading, self, tail)
        return tail is not None

    # --- for the ask

    def done(self) -> bool:
        return self.settled

    def set_result(self, answer: Answer) -> None:
        self.settled = True
        try:
            if answer.body is not None and self.target.counted:
                self._hot.tally.saw(self.entry_key)
            tail = self._hot.tail_of(self.target, answer)
            if answer.body is not None and len(answer.body) > BODY_BYTES:
                self._large = tail
            answered = self._hot.answered(tail, self.plain, answer)
        except Exception as error:
            self.set_exception(error)
        else:
            self.send(*answered)

    def set_exception(self, error: BaseException) -> None:
        self.settled = True
        problem = of_error(error) if isinstance(error, NeverstaleError) else internal()
        if problem.status >= 500 and problem.status != 503:
            log.error("read_failed", resource=self.target.source, exc_info=error)
        self._send_problem(problem)

    def cancel(self) -> bool:
        """The process ends before there is an answer."""
        self.settled = True
        self._send_problem(stopping())
        return True

    def _send_problem(self, problem: Problem) -> None:
        self.send_raw(raw(problem))


class Hot:
    """Of one process."""

    def __init__(
        self,
        reader: Reader,
        l1: L1,
        compressed: Compressed,
        marks: Bounds,
        targets: dict[bytes, Target],
        tally: ReadCounts,
        pages: PageLines,
    ) -> None:
        self.l1 = l1
        self.server = ServerHeader()
        self.moment = SharedHeaders(marks, self.server, L1_HIT, l1)
        """Of what L1 holds."""
        self.blocks: dict[bytes, Plain] = {}
        """What blocks of header lines mean, of those that were plain."""
        self.hits: dict[bytes, int] = {}
        """Request line -> answers from L1 that nobody has been told of yet."""
        self._counted: dict[bytes, int] = {}
        """Those of which is being told now."""
        self.tally = tally
        self.limits: Buckets | None = None
        """`None`: there are none."""
        self._reader = reader
        self._compressed = compressed
        self._marks = marks
        self.targets = targets
        self._pages = pages
        self._absences = {name: unknown_key(name.decode()).body for name in targets}
        self._last_large = (b"", b"")
        """An entry, and its tail."""
        self._moments: dict[bytes, tuple[Version, SharedHeaders]] = {}
        """Cache status -> the last moment of answers with it, and up to which version they miss nothing. All that
        Redis, or MongoDB, answered at once share one."""

    def find(self, line: bytes) -> tuple[AnyTarget, bytes, bytes] | None:
        """The target, path segment and entry key that a line of `GET` or `HEAD` names, if all is as usual."""
        page = self._pages.known.get(line)
        if page is not None:
            return page, b"", page.entry_key()
        match = LINE.fullmatch(line)
        if match is None:
            page = self._pages.find(line)
            return None if page is None else (page, b"", page.entry_key())
        target = self.targets.get(match[2])
        if target is None:
            return None
        entry_key = target.entry_key(match[3])
        return None if entry_key is None else (target, match[3], entry_key)

    def start(self, request: Request) -> None:
        """Have it answered with the others of this turn of the event loop."""
        self._reader.start(request.target.source, request)

    def choose(self, plain: Plain, tail: bytes) -> tuple[int, bytes]:
        """Status and tail for this caller: all of it, compressed, or that the caller has it."""
        if tail[0] != DOCUMENT:
            return 404, tail
        etag, version, packed = tail[ETAG], tail[headers.VERSION], None
        if plain.coding and len(tail) > FROM_BYTES:
            packed = self._compressed.of(plain.coding, etag, (tail[tail.index(BLANK) + 4 :],))
        if plain.none_match.holds(etag):
            return 304, headers.unchanged_tail(etag, version, weak=packed is not None)
        return 200, tail if packed is None else headers.packed_tail(etag, version, packed)

    def tail(self, target: AnyTarget, etag: bytes, version: bytes, body: bytes | None) -> bytes:
        """`version`: 16 hex digits; `body` `None`: an absence."""
        if body is None:
            return headers.absence_tail(version, self._absences[target.name])
        return headers.document_tail(etag, version, body)

    def keep(self, reading: Reading, request: Request, tail: bytes) -> None:
        target = request.target
        if target.ends:
            return  # Redis forgets it in time; here nobody would
        line = request.line if request.line[0] == b"G"[0] else b"GET" + request.line[4:]
        if isinstance(target, PageTarget):
            if request.place is not None:
                self.l1.keep_page(reading, request.place.group, line, tail)
        elif line in spellings(target.resource.name, target.canonical(request.entry_key)):
            self.l1.keep(reading, request.entry_key, line, tail)

    def moment_of(self, complete: Version, status: bytes) -> SharedHeaders:
        """Of answers with this cache status that miss no change up to this version."""
        held = self._moments.get(status)
        if held is None or held[0] != complete:
            moment = SharedHeaders(self._marks, self.server, status, Evidence(complete, 0))
            held = self._moments[status] = complete, moment
        return held[1]

    def large_tail(self, target: AnyTarget, entry: bytes) -> bytes:
        """Of a large entry: those who ask for it in one turn of the event loop share it."""
        held, tail = self._last_large
        if held is not entry:
            tail = self.tail(target, *facts_of_hit(entry))
            self._last_large = entry, tail
        return tail

    def tail_of(self, target: AnyTarget, answer: Answer) -> bytes:
        return self.tail(target, answer.etag, to_hex(answer.version).encode("ascii"), answer.body)

    def answered(self, tail: bytes, plain: Plain, answer: Answer) -> tuple[int, bytes, SharedHeaders]:
        """Status, tail and moment of what is no plain hit."""
        return (*self.choose(plain, tail), self.moment_of(answer.complete, cache_status(answer)))

    async def keep_counting(self) -> NoReturn:
        """Tell of hits in L1, for ever: telling of each would cost more than answering it."""
        await forever(self._count)

    async def _count(self) -> float:
        self._counted, self.hits = self.hits, {}
        while self._counted:
            self._tell(taken(self._counted, LINES_A_TURN))
            await asyncio.sleep(0)
        return COUNT_SECONDS

    def tell_hits(self) -> None:
        """To the metrics, and to the tally, all at once."""
        for counted in (self._counted, self.hits):
            self._tell(taken(counted, len(counted)))

    def _tell(self, counted: Sequence[tuple[bytes, int]]) -> None:
        hits = dict.fromkeys(self.targets, 0)
        for line, count in counted:
            found = self.find(line)
            if found is not None:
                target, _, entry_key = found
                hits[target.name] = hits.get(target.name, 0) + count
                tail = self.l1.answers.get(line) if target.counted else b""
                if target.counted and (tail is None or tail[0] == DOCUMENT):
                    self.tally.saw(entry_key, count)
        for name, count in hits.items():
            if count:
                telemetry.READS.labels(name.decode(), "hit").inc(count)
                telemetry.L1_HITS.labels(name.decode()).inc(count)


def as_text(response: ReadyResponse, server: bytes, *, close: bool, bodiless: bool) -> bytes:
    """A response as uvicorn would write it."""
    ending = b"connection: close" + BLANK if close else CRLF
    body = b"" if bodiless else response.body
    return b"".join(
        (headers.status_line(response.status_code), server, headers.lines(response.raw_headers), ending, body)
    )


def closing(text: bytes) -> bytes:
    """A whole response, with the last header that says that it is the last response."""
    head, blank, body = text.partition(BLANK)
    return head + b"\r\nconnection: close" + blank + body
