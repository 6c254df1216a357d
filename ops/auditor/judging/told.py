"""What an API told: one answer, as it was heard, and what of it is compared."""

import json
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import orjson

from neverstale.api.derived.pages import PageSource
from neverstale.ops.auditor.judging.questions import AuditQuestion
from neverstale.ops.http_client import HttpAnswer
from neverstale.versions import Version, from_hex

FOUND: Final = (200, 404)
_NEXT: Final = b'],"next":'


@dataclass(frozen=True, slots=True)
class Told:
    question: AuditQuestion
    url: str
    asked: float
    """Monotonic seconds, before the question was sent."""
    status: int
    body: bytes | None
    """`None`: there is no such thing."""
    version: Version | None
    """`None`: told with others, whose highest is all that is known."""
    bound: float | None
    """Seconds; `None`: it states none."""
    source: str
    """`l1`, `l2`, `mongodb`."""

    @property
    def shown(self) -> bytes | None:
        """What is compared with MongoDB."""
        return comparable(self.question, self.body)


def heard(question: AuditQuestion, url: str, asked: float, answer: HttpAnswer) -> Told | None:
    """An answer; `None`: it is none."""
    headers = answer.headers
    try:
        version = from_hex(headers["neverstale-version"].encode())
    except (KeyError, ValueError):
        return None
    if answer.status not in FOUND:
        return None
    body = answer.body if answer.status == 200 else None
    source = headers.get("cache-status", "").partition("detail=")[2]
    return Told(question, url, asked, answer.status, body, version, bound_of(answer), source)


def bound_of(answer: HttpAnswer) -> float | None:
    try:
        bound = float(answer.headers.get("neverstale-bound", "unknown"))
    except ValueError:
        return None
    return bound if isfinite(bound) else None


def comparable(question: AuditQuestion, body: bytes | None) -> bytes | None:
    """A page without its cursor, which may be signed with a secret that is not ours."""
    if body is None or not isinstance(question.source, PageSource):
        return body
    return body[: body.rfind(_NEXT)]


def same(one: bytes | None, other: bytes | None) -> bool:
    """Whether two bodies say the same: averages and sums of doubles may differ in their last digits."""
    if one == other:
        return True
    return one is not None and other is not None and _alike(_read(one), _read(other))


def _read(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # numbers beyond 64 bits, and the beginning of a page
        try:
            return json.loads(body)
        except ValueError:
            return body


_NEARLY: Final = 1e-13


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        if not (isinstance(one, int | float) and isinstance(other, int | float)):
            return False
        return abs(one - other) <= _NEARLY * max(abs(one), abs(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return type(one) is type(other) and bool(one == other)
