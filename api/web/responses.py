"""Answers as HTTP responses: one set of headers, whichever way an answer took."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from neverstale.api.reads.answer import Answer, Detail, How
from neverstale.api.state import state_of
from neverstale.api.web import headers
from neverstale.api.web.compression import Coding, Compressed
from neverstale.api.web.demands import coding_of
from neverstale.api.web.headers import BLANK, RawHeaders
from neverstale.api.web.pieces import LARGE_BYTES, length_of, pieces
from neverstale.api.web.preconditions import Conditions
from neverstale.api.web.problems import Problem, precondition_failed
from neverstale.api.web.unread import hold_for
from neverstale.versions import Version, to_hex

L1_HIT: Final = b"neverstale; hit; detail=l1"
L2_HIT: Final = b"neverstale; hit; detail=l2"


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the headers say of a response's content."""

    version: Version
    bound: float | None
    how: How
    detail: Detail
    collapsed: bool = False
    failed: bool = False


class ReadyResponse(Response):
    """A response whose headers are ready, as an ASGI server wants them. A large body goes out in pieces."""

    def __init__(self, status: int, headers: RawHeaders, body: bytes = b"", parts: Sequence[bytes] = ()) -> None:
        """`parts`: of a body that is not put together, instead of `body`."""
        self.status_code = status
        self.raw_headers = headers
        self.body = body
        self.background = None
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts: Sequence[bytes] = self._parts or (bytes(self.body),)
        if scope["method"] == "HEAD" or length_of(parts) <= LARGE_BYTES:
            await self._begin(send)
            await send({"type": "http.response.body", "body": self.body if not self._parts else b"".join(parts)})
            return
        with hold_for(scope.get("state", {})) as holding:
            try:
                holding.add(parts)
            except Problem as full:
                await full.response()(scope, receive, send)
                return
            await self._begin(send)
            for piece in pieces(parts):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": b""})

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


def raw(problem: Problem) -> ReadyResponse:
    """A problem as a response whose headers are ready."""
    response = problem.response()
    return ReadyResponse(response.status_code, response.raw_headers, bytes(response.body))


def facts_of(answer: Answer, bound: float | None) -> Provenance:
    return Provenance(answer.version, bound, answer.how, answer.detail, answer.collapsed, answer.failed)


def shortened(
    compressed: Compressed,
    coding: Coding | None,
    conditions: Conditions,
    etag: bytes,
    version: bytes,
    parts: Sequence[bytes],
) -> tuple[int, bytes] | None:
    """Status and tail for a caller that has the document already, or takes it compressed; `None`: it is given the
    whole document as it is. A `Problem` if the document is not the one that the caller expects.

    `parts`: of the body. `version`: 16 hex digits.
    """
    verdict = conditions.verdict(etag, version)
    if verdict == 412:
        raise precondition_failed()
    packed = compressed.of(coding, etag, parts)
    if verdict == 304:
        return 304, headers.unchanged_tail(etag, version, weak=packed is not None)
    return None if packed is None else (200, headers.packed_tail(etag, version, packed))


def found_or_unchanged(
    scope: Scope,
    conditions: Conditions,
    facts: Provenance,
    etag: bytes,
    parts: Sequence[bytes],
    resources: Iterable[str] = (),
) -> ReadyResponse:
    """The document, compressed if that is wanted, or that the caller has it; raises as `shortened`.

    `resources`: those whose documents it shows, if shared caches may keep it at all.
    """
    shared = shared_headers(scope, resources)
    version, coding = _version(facts), coding_of(scope["headers"])
    short = shortened(state_of(scope).compressed, coding, conditions, etag, version, parts)
    if short is None:
        return _raw(200, facts, headers.document_head(etag, version, length_of(parts)), parts, shared)
    status, tail = short
    return _raw(status, facts, tail, (tail[tail.index(BLANK) + 4 :],), shared)


def absent(facts: Provenance, body: bytes, shared: RawHeaders) -> ReadyResponse:
    """A 404 that is as good an answer as a document: it has a version and a bound too."""
    return _raw(404, facts, headers.absence_tail(_version(facts), body), (body,), shared)


def shared_headers(scope: Scope, resources: Iterable[str]) -> RawHeaders:
    """What shared caches are told of an answer with documents of these resources; nothing of none."""
    return state_of(scope).shared_caches.headers(resources) if resources else []


def _raw(status: int, facts: Provenance, tail: bytes, parts: Sequence[bytes], shared: RawHeaders) -> ReadyResponse:
    lines = headers.moving(facts.bound) + headers.fixed(status, cache_status(facts)) + headers.without_body(tail)
    return ReadyResponse(status, headers.pairs(lines) + shared, parts=parts)


def _version(facts: Provenance) -> bytes:
    return to_hex(facts.version).encode("ascii")


def cache_status(facts: Provenance | Answer) -> bytes:
    """The header that says where an answer comes from, and why."""
    return L2_HIT if facts.how == "hit" else _forwarded(facts.how, facts.detail, facts.failed, facts.collapsed)


@cache
def _forwarded(how: How, detail: Detail, failed: bool, collapsed: bool) -> bytes:
    status = f"neverstale; fwd={how}"
    if failed:
        status += "; fwd-status=503"
    if collapsed:
        status += "; collapsed"
    return f"{status}; detail={detail}".encode("ascii")
