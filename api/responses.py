"""Answers as HTTP responses: one set of headers, whichever way an answer took.

`Cache-Status` is RFC 9211, `ETag` and `Age` are RFC 9110 and 9111. `Age` and `Neverstale-Bound` are rounded up, never
down: no change that was committed longer ago is missing.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.answers import Answer, Detail, How
from neverstale.versions import Version, to_hex

RawHeaders = list[tuple[bytes, bytes]]

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", b"application/problem+json")
_REVALIDATE: Final = (b"cache-control", b"no-cache")
"""Others may store the response but must ask again, with its ETag: only we know when it is stale."""
_HIT: Final = b"neverstale; hit; detail=l2"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the headers say of a response's content."""

    version: Version
    bound: float | None
    how: How
    detail: Detail
    collapsed: bool = False
    failed: bool = False


class Raw(Response):
    """A response whose headers are ready, as an ASGI server wants them."""

    def __init__(self, status: int, headers: RawHeaders, body: bytes = b"") -> None:
        self.status_code = status
        self.raw_headers = headers
        self.body = body
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


def facts_of(answer: Answer, bound: float | None) -> Facts:
    return Facts(answer.version, bound, answer.how, answer.detail, answer.collapsed, answer.failed)


_LEAST_CACHED: Final[tuple[How, ...]] = ("hit", "miss", "stale", "request", "bypass")


def facts_of_many(answers: Sequence[Answer], bounds: Iterable[float | None]) -> Facts:
    """Of a response that holds several documents: the widest bound, and the answer that was least of a hit.

    The version is the highest: a caller that sends it back must see none of the documents in an older state.
    """
    known = list(bounds)
    least = max(answers, key=lambda answer: _LEAST_CACHED.index(answer.how))
    return Facts(
        version=max(answer.version for answer in answers),
        bound=None if None in known else max(bound for bound in known if bound is not None),
        how=least.how,
        detail="mongodb" if any(answer.detail == "mongodb" for answer in answers) else "l2",
        collapsed=all(answer.collapsed for answer in answers),
        failed=any(answer.failed for answer in answers),
    )


def found(facts: Facts, etag: bytes, body: bytes) -> Raw:
    headers = [_JSON, (b"content-length", b"%d" % len(body)), (b"etag", b'"%b"' % etag), *_of(facts)]
    return Raw(200, headers, body)


def not_modified(facts: Facts, etag: bytes) -> Raw:
    return Raw(304, [(b"etag", b'"%b"' % etag), *_of(facts)])


def absent(facts: Facts, body: bytes) -> Raw:
    """A 404 that is as good an answer as a document: it has a version and a bound too."""
    return Raw(404, [_PROBLEM, (b"content-length", b"%d" % len(body)), *_of(facts)], body)


def _of(facts: Facts) -> RawHeaders:
    headers = [
        _REVALIDATE,
        (b"cache-status", _cache_status(facts)),
        (b"neverstale-version", to_hex(facts.version).encode("ascii")),
    ]
    if facts.bound is None:
        headers.append((b"neverstale-bound", b"unknown"))
    else:
        headers.append((b"neverstale-bound", b"%.3f" % (math.ceil(facts.bound * 1000) / 1000)))
        headers.append((b"age", b"%d" % math.ceil(facts.bound)))
    return headers


def _cache_status(facts: Facts) -> bytes:
    if facts.how == "hit":
        return _HIT
    status = f"neverstale; fwd={facts.how}"
    if facts.failed:
        status += "; fwd-status=503"
    if facts.collapsed:
        status += "; collapsed"
    return f"{status}; detail={facts.detail}".encode("ascii")
