"""Heads of responses, in one place: as the text that goes over the wire, and as the pairs that ASGI wants.

A head has two parts. Its *beginning* is shared by all answers of one moment: what moves (`Neverstale-Bound` and
`Age`) and what never changes. Its *tail* belongs to one entry, stays the same until the entry changes, and ends with
the body:

    HTTP/1.1 200 OK                          etag: "16 hex digits"
    date: ...                                neverstale-version: 16 hex digits
    neverstale-bound: 0.105                  content-length: 557
    age: 1
    cache-control: no-cache                  {"_id": ...}
    cache-status: neverstale; hit; ...
    vary: accept, accept-encoding
    content-type: application/json

So a hit is one concatenation. `Cache-Status` is RFC 9211; `ETag`, `Vary` and `Age` are RFC 9110 and 9111. `Age` and
`Neverstale-Bound` are rounded up, never down: no change that was committed longer ago is missing.
"""

import math
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from time import monotonic
from typing import Final, Protocol

from uvicorn.server import ServerState

from neverstale.api.freshness.bound import Bounds
from neverstale.api.web.compression import Packed
from neverstale.versions import Version

RawHeaders = list[tuple[bytes, bytes]]

CRLF: Final = b"\r\n"
BLANK: Final = CRLF + CRLF
VALID_SECONDS: Final = 0.001
"""How long a beginning is used. Its bound is rounded up by as much."""

_REVALIDATE: Final = b"cache-control: no-cache\r\n"
"""Others may store the response but must ask again, with its ETag: only we know when it is stale."""
_VARY: Final = b"vary: accept, accept-encoding\r\n"
_NO_SHARED_CACHE: Final = b"cdn-cache-control: no-store\r\n"
"""Without a bound there is no age to count from, whatever else is said (`neverstale.api.web.shared_caches`)."""
_PRIVATE: Final = b"private, "
_AUTHORIZED: Final = b", authorization"
_JSON: Final = b"content-type: application/json\r\n"
_PROBLEM: Final = b"content-type: application/problem+json\r\n"
_TYPES: Final = {200: _JSON, 304: b"", 404: _PROBLEM}
_STATUS: Final = {status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}

ETAG: Final = slice(7, 23)
"""Where a document's tail has its ETag, and so on."""
VERSION: Final = slice(46, 62)
_LENGTH: Final = b"\r\ncontent-length: "
VALIDATORS: Final = slice(64)
"""The lines that a 304 repeats."""
DOCUMENT: Final = b"e"[0]
"""How a document's tail begins; an absence has no ETag."""


def status_line(status: int) -> bytes:
    return _STATUS[status]


def moving(bound: float | None) -> bytes:
    """The lines about an answer that misses nothing acknowledged more than `bound` seconds ago; `None`: unknown."""
    if bound is None:
        return b"neverstale-bound: unknown\r\n" + _NO_SHARED_CACHE
    return b"neverstale-bound: %.3f\r\nage: %d\r\n" % (math.ceil(bound * 1000) / 1000, math.ceil(bound))


def fixed(status: int, cache_status: bytes) -> bytes:
    """The other lines that answers with one status share; `status`: 200, 304 or 404."""
    return b"%bcache-status: %b\r\n%b%b" % (_REVALIDATE, cache_status, _VARY, _TYPES[status])


def for_one(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """The same headers of an answer that is for one caller: no shared cache keeps it for another (RFC 9111, section
    5.2.2.7), also one that has never heard of `Authorization`."""
    changed = []
    for name, value in headers:
        if name == b"cache-control" and b"no-store" not in value:
            value = _PRIVATE + value
        elif name == b"vary":
            value += _AUTHORIZED
        changed.append((name, value))
    return changed


def document_tail(etag: bytes, version: bytes, body: bytes) -> bytes:
    """`version`: 16 hex digits."""
    return b'etag: "%b"\r\nneverstale-version: %b\r\ncontent-length: %d\r\n\r\n%b' % (etag, version, len(body), body)


def document_head(etag: bytes, version: bytes, length: int) -> bytes:
    """The lines of a document's tail; the body comes in pieces."""
    return b'etag: "%b"\r\nneverstale-version: %b\r\ncontent-length: %d\r\n\r\n' % (etag, version, length)


def packed_tail(etag: bytes, version: bytes, packed: Packed) -> bytes:
    """The tail of a compressed body. Its ETag is weak: equal content, other bytes (RFC 9110, section 8.8.3)."""
    text = b'etag: W/"%b"\r\nneverstale-version: %b\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n%b'
    return text % (etag, version, packed.coding, len(packed.body), packed.body)


def absence_tail(version: bytes, body: bytes) -> bytes:
    return b"neverstale-version: %b\r\ncontent-length: %d\r\n\r\n%b" % (version, len(body), body)


def unchanged_tail(etag: bytes, version: bytes, *, weak: bool = False) -> bytes:
    """What a 304 says: the ETag that a 200 would have had, and no body."""
    return b'etag: %b"%b"\r\nneverstale-version: %b\r\n\r\n' % (b"W/" if weak else b"", etag, version)


def without_body(tail: bytes) -> bytes:
    """What a HEAD is answered with: all up to the body."""
    return tail[: tail.index(BLANK) + 4]


def with_lines(text: bytes, lines: bytes) -> bytes:
    """A whole response with further header lines, after all others."""
    end = text.index(BLANK) + 2
    return b"".join((text[:end], lines, text[end:]))


def further_lines(tail: bytes) -> bytes:
    """What `with_lines` has put into a tail."""
    start = tail.index(CRLF, tail.index(_LENGTH) + 2) + 2
    return tail[start : tail.index(BLANK) + 2]


def pairs(lines: bytes) -> RawHeaders:
    """Whole header lines as ASGI wants them."""
    found = []
    for line in lines.split(CRLF):
        name, colon, value = line.partition(b": ")
        if colon:
            found.append((name, value))
    return found


def lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


class ServerHeader:
    """The headers that the HTTP server puts before ours; it replaces their list once a second."""

    def __init__(self) -> None:
        self._state: ServerState | None = None
        self._seen: Sequence[tuple[bytes, bytes]] = ()
        self._text = b""

    def serve(self, state: ServerState) -> None:
        self._state = state

    def text(self) -> bytes:
        headers = self._state.default_headers if self._state is not None else ()
        if headers is not self._seen:
            self._seen, self._text = headers, lines(headers)
        return self._text


class BoundEvidence(Protocol):
    """What vouches for hits: they miss no change up to its watermark (0: unknown)."""

    @property
    def watermark(self) -> Version: ...


class SharedHeaders:
    """The beginnings of hits that rest on the same evidence, renewed by whoever finds them expired."""

    __slots__ = ("_fixed", "_marks", "_server", "absent", "evidence", "found", "moving", "unchanged", "until")

    def __init__(
        self,
        marks: Bounds,
        server: ServerHeader,
        cache_status: bytes,
        evidence: BoundEvidence,
        *,
        private: bool = False,
    ) -> None:
        """`private`: for one caller."""
        self.until = 0.0
        """Monotonic seconds."""
        self.found = self.unchanged = self.absent = self.moving = b""
        self._marks = marks
        self._server = server
        self.evidence = evidence
        every = [fixed(status, cache_status) for status in (200, 304, 404)]
        self._fixed = [lines(for_one(pairs(each))) for each in every] if private else every

    def renew(self, now: float) -> None:
        """`now`: monotonic seconds, taken before."""
        bound = self._marks.bound(self.evidence.watermark)
        self.moving = moving(None if bound is None else bound + VALID_SECONDS)
        shared = self._server.text() + self.moving
        found, unchanged, absent = self._fixed
        self.found = _STATUS[200] + shared + found
        self.unchanged = _STATUS[304] + shared + unchanged
        self.absent = _STATUS[404] + shared + absent
        self.until = now + VALID_SECONDS

    def beginning(self, status: int, now: float) -> bytes:
        """`now`: monotonic seconds."""
        if now >= self.until:
            self.renew(now)
        return self.found if status == 200 else self.absent if status == 404 else self.unchanged

    def headers(self, status: int, tail: bytes) -> RawHeaders:
        """The headers as ASGI wants them: without the status line and those of the server."""
        if (now := monotonic()) >= self.until:
            self.renew(now)
        place = {200: 0, 304: 1, 404: 2}[status]
        return pairs(self.moving + self._fixed[place] + without_body(tail))
