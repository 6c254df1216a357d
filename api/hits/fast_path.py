"""Hits before ASGI: from a request line to the bytes of a response, through L1 or the reader.

There is no connection in it. The protocol and the pure-ASGI app hand a `WireAsk` over and get it answered; both are
given the same bytes.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from neverstale.api.callers.gate import Gate, Known
from neverstale.api.derived.lookups import LookupSource
from neverstale.api.derived.sources import Sources
from neverstale.api.freshness.bound import Bounds
from neverstale.api.freshness.watermark import Evidence
from neverstale.api.hits import counted
from neverstale.api.hits.request_lines import RequestLines
from neverstale.api.limits.buckets import Buckets
from neverstale.api.reads.answer import ANYTHING, AUDIT, Answer
from neverstale.api.reads.ask import Ask
from neverstale.api.reads.fills import BODY_BYTES
from neverstale.api.reads.l1 import L1, Reading
from neverstale.api.reads.read_counts import taken
from neverstale.api.reads.reader import Reader
from neverstale.api.reads.source import CachedSource
from neverstale.api.web import headers
from neverstale.api.web.compression import FROM_BYTES, Compressed
from neverstale.api.web.demands import PLAIN, Plain
from neverstale.api.web.headers import BLANK, CRLF, DOCUMENT, ETAG, VERSION, ServerHeader, SharedHeaders
from neverstale.api.web.pieces import LARGE_BYTES
from neverstale.api.web.preconditions import NO_CONDITIONS
from neverstale.api.web.problems import Problem, internal, of_error, stopping, unknown_key
from neverstale.api.web.responses import L1_HIT, L2_HIT, ReadyResponse, cache_status, raw, shortened
from neverstale.api.web.shared_caches import SharedCaches
from neverstale.errors import NeverstaleError
from neverstale.redis.entries import facts_of_hit
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.versions import Version, to_hex

log = telemetry.logger(__name__)

COUNT_SECONDS: Final = 0.5
USUAL: Final = (200, 404)
"""Statuses of answers that are all of a document, or its absence."""
ELSEWHERE: Final = 0
"""In place of a status: the answer is counted elsewhere."""
MOST_SHARED: Final = 64
"""Versions of which headers are remembered: the watermarks of cells, and what was read from MongoDB just now."""
LINES_A_TURN: Final = 50
"""So many are told of between two turns of the event loop: requests wait for a fraction of a millisecond."""


class WireAsk(Ask):
    """A plain get that L1 could not answer. Its answer goes out as bytes."""

    __slots__ = ("_hot", "_large", "line", "plain", "private", "settled")

    source: CachedSource

    def __init__(self, hot: "Hot", source: CachedSource, key: Any, line: bytes, plain: Plain) -> None:
        entry_key, place = source.locate(key)
        Ask.__init__(self, source, key, AUDIT if plain.audit else ANYTHING, entry_key, place)
        self.line = line
        self.plain = plain
        self.private = False
        """The answer is for this caller alone, and no shared cache."""
        self.settled = False
        self._hot = hot
        self._large: bytes | None = None
        """The tail of an answer that is too large for Redis."""

    @abstractmethod
    def send(self, status: int, tail: bytes, shared: SharedHeaders) -> None:
        """Sends a document or its absence."""

    @abstractmethod
    def send_raw(self, response: ReadyResponse) -> None:
        """Sends anything else."""

    def done(self) -> bool:
        return self.settled

    def hit(self, entry: bytes, watermark: Version, reading: Reading | None) -> None:
        # The same as `set_answer`, without an `Answer`: nearly every read is one of these, and with one it took half
        # as long again.
        hot, plain = self._hot, self.plain
        self.settled = True
        try:
            tail = (
                hot.large_tail(self.source, entry)
                if len(entry) > LARGE_BYTES
                else hot.tail(self.source, *facts_of_hit(entry))
            )
            found = tail[0] == DOCUMENT
            if found and self.wish is ANYTHING:
                self.source.count_read(self.entry_key)
            if reading is not None:
                hot.keep(reading, self, tail)
            status = 200
            if not found or plain is not PLAIN:
                status, tail = hot.choose(plain, tail)
            shared = hot.shared_by(watermark, L2_HIT, private=self.private)
        except Exception as error:
            self.set_error(error)  # and the others of this batch get what is theirs
        else:
            self.send(status, tail, shared)

    def keep(self, reading: Reading | None) -> bool:
        tail, self._large = self._large, None
        if tail is not None and reading is not None:
            self._hot.keep(reading, self, tail)
        return tail is not None

    def set_answer(self, answer: Answer) -> None:
        hot = self._hot
        self.settled = True
        try:
            tail = hot.tail(self.source, answer.etag, to_hex(answer.version).encode("ascii"), answer.body)
            if answer.body is not None:
                if self.wish is ANYTHING:
                    self.source.count_read(self.entry_key)
                if len(answer.body) > BODY_BYTES:
                    self._large = tail
            status, tail = hot.choose(self.plain, tail)
            shared = hot.shared_by(answer.complete, cache_status(answer), private=self.private)
        except Exception as error:
            self.set_error(error)
        else:
            self.send(status, tail, shared)

    def set_error(self, error: BaseException) -> None:
        self.settled = True
        problem = of_error(error) if isinstance(error, NeverstaleError) else internal()
        if problem.status >= 500 and problem.status != 503:
            log.error("read_failed", resource=self.source.name, exc_info=error)
        self._send_problem(problem)

    def cancel(self) -> None:
        self.settled = True
        self._send_problem(stopping())

    def _send_problem(self, problem: Problem) -> None:
        self.send_raw(raw(problem))


class L1Evidence:
    """What vouches for the answers of one watcher group's resources in L1."""

    __slots__ = ("_group", "_l1")

    def __init__(self, l1: L1, group: str) -> None:
        self._l1 = l1
        self._group = group

    @property
    def watermark(self) -> Version:
        return self._l1.watermark_of(self._group)


class Hot:
    """The fast path of one process."""

    def __init__(
        self,
        reader: Reader,
        l1: L1,
        compressed: Compressed,
        bounds: Bounds,
        lines: RequestLines,
        sources: Sources,
    ) -> None:
        self.l1 = l1
        self.server = ServerHeader()
        groups = {name: source.resource.watcher_group for name, source in sources.documents.items()}
        vouchers = {group: L1Evidence(l1, group) for group in groups.values()}
        evidence = next(iter(vouchers.values())) if len(vouchers) == 1 else l1
        self.shared = SharedHeaders(bounds, self.server, L1_HIT, evidence)
        """By all answers from L1; with several watcher groups, by those of the group of the last one."""
        self.private = SharedHeaders(bounds, self.server, L1_HIT, evidence, private=True)
        """By those for one caller alone."""
        by_group = {
            group: (
                SharedHeaders(bounds, self.server, L1_HIT, one),
                SharedHeaders(bounds, self.server, L1_HIT, one, private=True),
            )
            for group, one in vouchers.items()
        }
        self._by_resource = {name.encode(): by_group[group] for name, group in groups.items()}
        self.blocks: dict[bytes, Known] = {}
        """Blocks of header lines that were plain, with what they mean, where it matters to nobody who sends them."""
        self.hits: dict[bytes, int] = {}
        """Request line -> answers from L1 that nobody has been told of yet."""
        self.unusual: dict[tuple[bytes, int], int] = {}
        """Request line, status -> those of these answers that were neither all of a document nor its absence."""
        self.answers: dict[tuple[str, int], int] = {}
        """Name of the source, status -> other answers that the metrics have not been told of yet."""
        self._reporting: dict[bytes, int] = {}
        """The hits that are being reported."""
        self.gate: Gate | None = None
        """`None`: all that is answered here is for everybody, and nobody's requests are counted."""
        self.limits: Buckets | None = None
        """`None`: there are none."""
        self.shared_caches: SharedCaches | None = None
        """`None`: no resource may be kept by any."""
        self.look = self.look_in_l1 if len(vouchers) <= 1 else self.look_among_groups
        self.find = lines.find
        self.start = reader.start
        """Has an ask answered with the others of this turn of the event loop."""
        self._compressed = compressed
        self.bounds = bounds
        self._absences = {one.name: unknown_key(one.name).body for one in sources.documents.values()}
        self._absences |= {one.name: one.absence for one in sources.every(LookupSource)}
        self._last_large = (b"", b"")
        """An entry, and its tail."""
        self._shared: dict[Version, dict[bytes, SharedHeaders]] = {}
        self._private: dict[Version, dict[bytes, SharedHeaders]] = {}
        """Up to which version answers miss nothing -> cache status -> their headers. All that one cell, or MongoDB,
        answered at once share them."""

    def look_in_l1(self, line: bytes, plain: Plain = PLAIN) -> bytes | None:
        """The tail of the answer to a line of `GET` or `HEAD` that L1 holds; a hit, unless of an audit, counts."""
        tail = self.l1.answers.get(line)
        if tail is None:
            tail = self.l1.answers.get(b"GET" + line[4:]) if line[:5] == b"HEAD " else None
            if tail is None:
                return None
        if plain.audit:
            telemetry.AUDITED.inc()
            return tail
        hits = self.hits
        hits[line] = hits.get(line, 0) + 1
        return tail

    def look_among_groups(self, line: bytes, plain: Plain = PLAIN) -> bytes | None:
        """The same; `shared` and `private` are those of the watcher group of what was found, until the next look."""
        tail = self.look_in_l1(line, plain)
        if tail is not None:
            self.shared, self.private = self._by_resource[line.split(b"/", 3)[2]]
        return tail

    def count(self, source: CachedSource, status: int) -> None:
        """An answer that is no hit in L1 goes out."""
        answers, what = self.answers, (source.name, status)
        answers[what] = answers.get(what, 0) + 1

    def choose(self, plain: Plain, tail: bytes) -> tuple[int, bytes]:
        """Status and tail for this caller: all of it, compressed, or that the caller has it."""
        if tail[0] != DOCUMENT:
            return 404, tail
        packs = plain.coding is not None and len(tail) > FROM_BYTES
        if not packs and plain.conditions is NO_CONDITIONS:
            return 200, tail
        parts = (tail[tail.index(BLANK) + 4 :],) if packs else ()
        short = shortened(self._compressed, plain.coding, plain.conditions, tail[ETAG], tail[VERSION], parts)
        if short is None:
            return 200, tail
        lines = headers.further_lines(tail) if self.shared_caches is not None else b""
        return (short[0], headers.with_lines(short[1], lines)) if lines else short

    def tail(self, source: CachedSource, etag: bytes, version: bytes, body: bytes | None) -> bytes:
        """`version`: 16 hex digits; `body` `None`: an absence."""
        if body is None:
            tail = headers.absence_tail(version, self._absences[source.name])
        else:
            tail = headers.document_tail(etag, version, body)
        if self.shared_caches is not None and (lines := self.shared_caches.lines(source.name)):
            return headers.with_lines(tail, lines)
        return tail

    def large_tail(self, source: CachedSource, entry: bytes) -> bytes:
        """The tail of a large entry: those who ask for it in one turn of the event loop share it."""
        held, tail = self._last_large
        if held is not entry:
            tail = self.tail(source, *facts_of_hit(entry))
            self._last_large = entry, tail
        return tail

    def keep(self, reading: Reading, ask: WireAsk, tail: bytes) -> None:
        """Keeps an answer in L1, if that may be."""
        line = ask.line if ask.line.startswith(b"GET") else b"GET" + ask.line[4:]
        ask.source.keep(self.l1, reading, ask, line, tail)

    def shared_by(self, complete: Version, status: bytes, *, private: bool) -> SharedHeaders:
        """The headers of answers with this cache status that miss no change up to this version."""
        known = self._private if private else self._shared
        by_status = known.get(complete)
        if by_status is None:
            if len(known) >= MOST_SHARED:
                known.clear()
            by_status = known[complete] = {}
        shared = by_status.get(status)
        if shared is None:
            evidence = Evidence(complete, 0)
            shared = by_status[status] = SharedHeaders(self.bounds, self.server, status, evidence, private=private)
        return shared

    async def keep_counting(self) -> NoReturn:
        """Reports hits in L1, for ever: reporting each would cost more than answering it."""
        await forever(self._count)

    async def _count(self) -> float:
        self._reporting, self.hits = self.hits, {}
        answers, self.answers = self.answers, {}
        unusual, self.unusual = self.unusual, {}
        while self._reporting:
            self._report(taken(self._reporting, LINES_A_TURN), answers)
            await asyncio.sleep(0)
        self._tell(answers, unusual)
        return COUNT_SECONDS

    def report_hits(self) -> None:
        """Reports all hits at once, to the metrics and to what counts reads."""
        for some in (self._reporting, self.hits):
            self._report(taken(some, len(some)), self.answers)
        self._tell(self.answers, self.unusual)
        self.answers, self.unusual = {}, {}

    def _report(self, some: Sequence[tuple[bytes, int]], answers: dict[tuple[str, int], int]) -> None:
        hits: dict[str, int] = {}
        for line, count in some:
            found = self.find(line)
            if found is not None:
                source, key = found
                hits[source.name] = hits.get(source.name, 0) + count
                tail = self.l1.answers.get(line)
                found_it = tail is None or tail[0] == DOCUMENT
                if found_it:
                    source.count_read(source.locate(key)[0], count)
                _add(answers, (source.name, 200 if found_it else 404), count)
        for name, count in hits.items():
            telemetry.READS.labels(name, "hit").inc(count)
            telemetry.L1_HITS.labels(name).inc(count)

    def _tell(self, answers: dict[tuple[str, int], int], unusual: dict[tuple[bytes, int], int]) -> None:
        for (line, status), count in unusual.items():
            if (found := self.find(line)) is not None:
                _add(answers, (found[0].name, 200), -count)
                if status != ELSEWHERE:
                    _add(answers, (found[0].name, status), count)
        counted.tell(answers)


def _add(counts: dict[tuple[str, int], int], what: tuple[str, int], count: int) -> None:
    counts[what] = counts.get(what, 0) + count


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
