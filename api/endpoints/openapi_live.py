"""OpenAPI of live reads: the same requests, answered by a stream."""

from collections.abc import Mapping
from typing import Any, Final

from neverstale.api.web.demands import EVENTS

Responses = Mapping[int | str, dict[str, Any]]

LAST_EVENT_ID: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "With `Accept: text/event-stream`: the `id` of the last event that the caller has seen, 16 hex "
    "digits. The first state misses nothing up to it. It means nothing without that `Accept`.",
    "schema": {"type": "string"},
    "example": "5117a1b300000001",
}
_STREAM: Final[dict[str, Any]] = {
    EVENTS.decode(): {
        "schema": {
            "type": "string",
            "description": "With `Accept: text/event-stream`: the present state, and one after each change. `id` is "
            "its version; a comment at least each second says the bound. `event: absent`: there is nothing; "
            "`event: problem`: a read failed, and is tried again.",
        },
        "example": ': bound 0.052\nid: 5117a1b300000001\ndata: {"_id":"text"}\n\n',
    }
}
_TOO_MANY: Final[dict[str, Any]] = {
    "description": "The caller has too many live reads open.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
}


def or_live(answers: Responses) -> dict[int | str, dict[str, Any]]:
    """The responses of a read that may be a stream, too."""
    found = answers[200]
    return {**answers, 200: {**found, "content": {**found.get("content", {}), **_STREAM}}, 429: _TOO_MANY}
