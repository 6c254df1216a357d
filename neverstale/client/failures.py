"""What a reader of the API may meet instead of an answer, by what can be done about it.

    ApiFailure                   the root of all of them
      Unreachable                no answer came: try again, or another address
      Unintelligible             something answered that is not this API (a proxy's page, half an answer)
      ApiProblem                 the API says what is wrong (RFC 9457): `type`, `detail`, `members`
        TryLater                 429, 503: the same request may succeed after `retry_after_seconds`
        NotInCache               504: `only_if_cached`, and the cache cannot answer
        Ambiguous                409: several documents have the value that is looked up
        Unauthorized             401: the key or token is missing, unknown or at its end
        Forbidden                403: the catalog, a setting or a scope forbids it
        NothingThere             404: no such resource, list, counter, ranking or look-up
        WrongRequest             any other 4xx: the request will never succeed as it is
        ServerFault              500: a mistake of the server, or a document that MongoDB refuses to read

A document that is not there is no failure: it is an answer whose value is `None`.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

MEDIA_TYPE: Final = "application/problem+json"
ABSENT: Final = "urn:neverstale:unknown-key"
"""The type of the problem that says that there is no document: an answer like any other."""
_LONGEST_WAIT: Final = 3600.0


class ApiFailure(Exception):
    """There is no answer."""


class Unreachable(ApiFailure):
    """No answer came."""


class Unintelligible(ApiFailure):
    """What came is no answer of this API."""


class ApiProblem(ApiFailure):
    """The API refuses, and says why."""

    def __init__(self, status: int, members: Mapping[str, Any], retry_after_seconds: float | None = None) -> None:
        super().__init__(f"{status} {members.get('detail') or members.get('title') or ''}".strip())
        self.status = status
        self.type: str = str(members.get("type", "about:blank"))
        """For programs, e.g. `urn:neverstale:bad-parameter`."""
        self.detail: str = str(members.get("detail", ""))
        """For people."""
        self.members = dict(members)
        """All that the problem says, e.g. `parameter`, `resource`, `refusal`."""
        self.retry_after_seconds = retry_after_seconds


class WrongRequest(ApiProblem):
    """The request will never succeed as it is."""


class Unauthorized(ApiProblem):
    """The key or token is missing, unknown or at its end."""


class Forbidden(ApiProblem):
    """The catalog, a setting or a scope forbids it."""


class NothingThere(ApiProblem):
    """There is no such resource, list, counter, ranking or look-up."""


class Ambiguous(ApiProblem):
    """Several documents have the value that is looked up."""


class TryLater(ApiProblem):
    """The same request may succeed later."""


class NotInCache(ApiProblem):
    """The request forbids to read MongoDB, and the cache alone cannot answer."""


class ServerFault(ApiProblem):
    """A mistake of the server, or one document that MongoDB refuses to read."""


_CLASSES: Final[Mapping[int, type[ApiProblem]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NothingThere,
    409: Ambiguous,
    429: TryLater,
    503: TryLater,
    504: NotInCache,
}


def problem_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiFailure:
    """The failure that an answer with another status than 200 is."""
    members = _members(headers, body)
    if members is None:
        if status in (429, 502, 503, 504):  # of a proxy before the API
            return TryLater(status, {"detail": "a proxy answers for the API"}, _retry_after(headers))
        return Unintelligible(f"status {status} without problem details")
    kind = _CLASSES.get(status, WrongRequest if 400 <= status < 500 else ServerFault)
    return kind(status, members, _retry_after(headers))


def _members(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any] | None:
    if headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        return None
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return members if isinstance(members, dict) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return min(float(text), _LONGEST_WAIT) if text.isascii() and text.isdigit() and len(text) < 10 else None
