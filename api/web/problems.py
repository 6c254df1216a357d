"""Errors as problem details (RFC 9457). They name what the caller sent or should do, never what is inside."""

import math
from collections.abc import Mapping
from typing import Any, Final

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from neverstale.api.reads.answer import DemandRefused, NotCached, NotUnique, TooLong, TooManyGroups
from neverstale.errors import NeverstaleError, Outage, Overloaded, Refused, TooSlow
from neverstale.mongodb.loader import VersionInFuture

MEDIA_TYPE: Final = "application/problem+json"
MIN_VERSION: Final = "Neverstale-Min-Version"
NAMES: Final = {"mongodb": "MongoDB", "redis": "Redis", "kafka": "Kafka"}
METHODS: Final = "GET, HEAD"
INTERNAL: Final = "urn:neverstale:internal"
CHALLENGE: Final = 'Bearer realm="neverstale"'


class Problem(Exception):
    """An answer that is an error. `kind` names it for programs: `urn:neverstale:{kind}`."""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.members = {
            "type": f"urn:neverstale:{kind}",
            "title": title,
            "status": status,
            "detail": detail,
            **members,
        }

    @property
    def body(self) -> bytes:
        return orjson.dumps(self.members)

    def response(self) -> Response:
        return Response(self.body, self.status, self.headers | {"cache-control": "no-store"}, MEDIA_TYPE)


def bad_parameter(parameter: str, detail: str) -> Problem:
    """400: `parameter` is a query parameter, a header or `key`."""
    return Problem(400, "bad-parameter", "Bad parameter", f"{parameter}: {detail}", parameter=parameter)


def unknown_resource() -> Problem:
    return Problem(404, "unknown-resource", "Unknown resource", "There is no such resource; /openapi.json lists all.")


def unknown_path() -> Problem:
    detail = "There is nothing here. A / inside a key is written %2F."
    return Problem(404, "unknown-path", "Unknown path", detail)


def unknown_key(resource: str) -> Problem:
    detail = "There is no document with this key."
    return Problem(404, "unknown-key", "Unknown key", detail, resource=resource)


def unknown_value(resource: str, field: str) -> Problem:
    detail = f"There is no document with this {field}."
    return Problem(404, "unknown-key", "Unknown key", detail, resource=resource, field=field)


def unranked(resource: str) -> Problem:
    detail = "There is no document with this key and a score in this group."
    return Problem(404, "unknown-key", "Unknown key", detail, resource=resource)


def unread(resource: str) -> Problem:
    detail = "This document is not among the most read."
    return Problem(404, "unknown-key", "Unknown key", detail, resource=resource)


def unknown_derived() -> Problem:
    detail = "There is no such list, counter, ranking or look-up; /openapi.json lists all."
    return Problem(404, "unknown-path", "Unknown path", detail)


def switched_off(resource: str, field: str, what: str) -> Problem:
    """403: `field` is the one of the catalog."""
    detail = f"The catalog switches {what} of {resource} off: {field}."
    return Problem(403, "switched-off", "Switched off", detail, resource=resource)


def no_credentials() -> Problem:
    """401 (RFC 6750, section 3.1: who has shown nothing is told of no error)."""
    detail = "Show a key or a token: Authorization: Bearer …"
    return Problem(401, "unauthorized", "Unauthorized", detail, {"www-authenticate": CHALLENGE})


def invalid_credentials(detail: str, error: str) -> Problem:
    """401: `error` is one of RFC 6750, section 3.1."""
    challenge = f'{CHALLENGE}, error="{error}", error_description="{detail}"'
    return Problem(401, "unauthorized", "Unauthorized", detail, {"www-authenticate": challenge})


def insufficient_scope(scope: str, detail: str) -> Problem:
    """403: with this scope the request would be answered."""
    challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{scope}"'
    return Problem(
        403, "insufficient-scope", "Insufficient scope", detail, {"www-authenticate": challenge}, scope=scope
    )


def other_tenant(detail: str) -> Problem:
    """403: the request asks for what belongs to somebody else, by name."""
    return Problem(403, "other-tenant", "Other tenant", detail)


def keys_unknown() -> Problem:
    detail = "The keys of the identity provider cannot be fetched, so nobody's token can be verified."
    return Problem(503, "unavailable", "Unavailable", detail, _retry_after(1), server="jwks")


def method_not_allowed(allowed: str = METHODS) -> Problem:
    detail = f"Only {allowed}: documents are written in MongoDB."
    return Problem(405, "method-not-allowed", "Method not allowed", detail, {"allow": allowed})


def precondition_failed() -> Problem:
    detail = "If-Match or If-Unmodified-Since: what is there is not what the request expects."
    return Problem(412, "precondition-failed", "Precondition failed", detail)


def malformed() -> Problem:
    return Problem(400, "bad-request", "Bad request", "This is no request in HTTP/1.1.")


def unknown_version() -> Problem:
    return Problem(505, "http-version", "HTTP version not supported", "HTTP/1.1 is spoken here, and HTTP/1.0.")


def unknown_coding() -> Problem:
    return Problem(
        501, "transfer-coding", "Not implemented", "The only transfer coding that is read here is chunked."
    )


def head_too_large() -> Problem:
    detail = "The request line and the header lines are too large together."
    return Problem(431, "head-too-large", "Request header fields too large", detail)


def head_too_slow() -> Problem:
    detail = "The request line and the header lines took too long to arrive."
    return Problem(408, "head-too-slow", "Request timeout", detail)


def body_too_large() -> Problem:
    detail = "The body of this request is longer than what is read here (clients.body_bytes)."
    return Problem(413, "body-too-large", "Content too large", detail)


def body_too_slow() -> Problem:
    detail = "The body of this request took too long to arrive."
    return Problem(408, "body-too-slow", "Request timeout", detail, {"connection": "close"})


def unsupported_media_type(detail: str) -> Problem:
    accepted = {"accept-post": "application/json", "accept-query": "application/json"}
    return Problem(415, "unsupported-media-type", "Unsupported media type", f"Content-Type: {detail}.", accepted)


def bad_body(detail: str) -> Problem:
    """400: it cannot be read as a whole; what is wrong inside is named as a parameter."""
    return bad_parameter("body", detail)


def answer_too_large(parameter: str, limit_bytes: int, remedy: str) -> Problem:
    """413: `parameter` makes the answer so large."""
    detail = f"{parameter}: the answer would have more than {limit_bytes} bytes; {remedy}"
    return Problem(413, "answer-too-large", "Answer too large", detail, parameter=parameter)


def too_much_unread() -> Problem:
    detail = "Too many large answers wait for clients that read slowly."
    return Problem(503, "overloaded", "Overloaded", detail, _retry_after(1))


def too_many_connections() -> Problem:
    detail = "So many clients are connected that there is no room for another one."
    return Problem(503, "overloaded", "Overloaded", detail, _retry_after(1))


def too_many_requests(seconds: float) -> Problem:
    detail = "This caller makes more requests than it may; Retry-After says when there is room for one."
    return Problem(429, "too-many-requests", "Too many requests", detail, _retry_after(seconds))


def of_error(error: NeverstaleError) -> Problem:
    """The problem that an error of the reader is for the caller."""
    match error:
        case NotCached():
            detail = "The request forbids to read MongoDB, and the cache holds no answer that will do."
            return Problem(504, "not-cached", "Not cached", detail)
        case DemandRefused():
            detail = "The cache does not meet what the request demands, and MongoDB is read for nobody's demand here."
            return Problem(403, "demand-refused", "Demand refused", detail)
        case VersionInFuture():
            return bad_parameter(MIN_VERSION, "this version lies in the future of the database")
        case TooManyGroups():
            return bad_parameter("group", "more than 10000 groups; give values of more fields, or group by fewer")
        case NotUnique():
            return _not_unique(error)
        case TooLong():
            detail = "No cursor can hold the sort keys of these documents; sort by a smaller field."
            return Problem(500, "position-too-large", "Position too large", detail)
        case TooSlow():
            detail = "MongoDB would take too long: what Redis keeps of this is not ready, or an index is missing."
            return Problem(503, "too-slow", "Too slow", detail, _retry_after(error.retry_after_seconds))
        case Overloaded():
            detail = f"Too many reads are waiting for {NAMES[error.server]}."
            return Problem(503, "overloaded", "Overloaded", detail, _retry_after(error.retry_after_seconds))
        case Refused():
            return _refused(error)
        case Outage():
            detail = f"{NAMES[error.server]} does not answer."
            return Problem(503, "unavailable", "Unavailable", detail, _retry_after(1), server=error.server)
    return internal()


def _not_unique(error: NotUnique) -> Problem:
    """A caller can do nothing but read the documents by their keys; who runs this can keep it from happening."""
    detail = (
        f"More than one document has this {error.field}. Read them by their keys, give them different values, "
        "then make the unique index that neverstale check names."
    )
    return Problem(409, "not-unique", "Not unique", detail, resource=error.resource, field=error.field)


def _refused(error: Refused) -> Problem:
    """503 where a later read may be answered, by itself or because somebody has done what the remedy says."""
    detail = f"MongoDB refuses this read: {error.reason}."
    status, headers = 500, {}
    if error.lasts or error.heals:
        status, headers = 503, _retry_after(1 if error.heals else 10)
    refusal = {"code": error.code, "name": error.name, "remedy": error.remedy}
    return Problem(status, "refused", "Refused by MongoDB", detail, headers, refusal=refusal)


def internal() -> Problem:
    return Problem(500, "internal", "Internal error", "Something is wrong here; the log says more.")


def stopping() -> Problem:
    return Problem(503, "stopping", "Stopping", "This process ends; another one answers.", _retry_after(1))


def _retry_after(seconds: float) -> dict[str, str]:
    return {"retry-after": str(max(math.ceil(seconds), 1))}


def install(app: FastAPI) -> None:
    """Answers every error of this app with problem details."""

    async def on_problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    async def on_error_of_ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, NeverstaleError)
        problem = of_error(error)
        if problem.members["type"] == INTERNAL:
            raise error
        return problem.response()

    async def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return method_not_allowed().response()
        if error.status_code == 404:
            return unknown_path().response()
        return Problem(error.status_code, "http", error.detail, error.detail, error.headers).response()

    async def on_anything_else(_: Request, error: Exception) -> Response:
        response = internal().response()
        response.headers["connection"] = "close"  # for so the server does, which logs the error
        return response

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(NeverstaleError, on_error_of_ours)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_anything_else)
