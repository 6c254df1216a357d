"""Answers as HTTP responses: one set of headers, whichever way an answer took."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.reads.answer import Answer, Detail, How
from api.web import headers
from api.web.compression import Packed
from api.web.headers import RawHeaders
from api.web.pieces import LARGE_BYTES, length_of, pieces
from api.web.problems import Problem
from api.web.unread import hold_for
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


_LEAST_CACHED: Final[tuple[How, ...]] = ("hit", "miss", "stale", "request", "bypass")


def facts_of_many(answers: Sequence[Answer], bounds: Iterable[float | None]) -> Provenance:
    """Of a response that holds several documents: the widest bound, and the answer that was least of a hit.

    The version is the highest: a caller that sends it back must see none of the documents in an older state.
    """
    known = list(bounds)
    least = max(answers, key=lambda answer: _LEAST_CACHED.index(answer.how))
    return Provenance(
        version=max(answer.version for answer in answers),
        bound=None if None in known else max(bound for bound in known if bound is not None),
        how=least.how,
        detail="mongodb" if any(answer.detail == "mongodb" for answer in answers) else "l2",
        collapsed=all(answer.collapsed for answer in answers),
        failed=any(answer.failed for answer in answers),
    )


def found(facts: Provenance, etag: bytes, parts: Sequence[bytes], packed: Packed | None = None) -> ReadyResponse:
    """`parts`: of the body. `packed`: the compressed body, if that is wanted."""
    if packed is not None:
        return _raw(200, facts, headers.packed_tail(etag, _version(facts), packed), (packed.body,))
    return _raw(200, facts, headers.document_head(etag, _version(facts), length_of(parts)), parts)


def not_modified(facts: Provenance, etag: bytes, *, weak: bool = False) -> ReadyResponse:
    """`weak`: a 200 would have been compressed."""
    return _raw(304, facts, headers.unchanged_tail(etag, _version(facts), weak=weak), ())


def absent(facts: Provenance, body: bytes) -> ReadyResponse:
    """A 404 that is as good an answer as a document: it has a version and a bound too."""
    return _raw(404, facts, headers.absence_tail(_version(facts), body), (body,))


def _raw(status: int, facts: Provenance, tail: bytes, parts: Sequence[bytes]) -> ReadyResponse:
    lines = headers.moving(facts.bound) + headers.fixed(status, cache_status(facts)) + headers.without_body(tail)
    return ReadyResponse(status, headers.pairs(lines), parts=parts)


def _version(facts: Provenance) -> bytes:
    return to_hex(facts.version).encode("ascii")


def cache_status(facts: Provenance | Answer) -> bytes:
    """The header that says where an answer comes from, and why."""
    if facts.how == "hit":
        return L2_HIT
    status = f"neverstale; fwd={facts.how}"
    if facts.failed:
        status += "; fwd-status=503"
    if facts.collapsed:
        status += "; collapsed"
    return f"{status}; detail={facts.detail}".encode("ascii")
