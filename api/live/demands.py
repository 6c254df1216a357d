"""What a request for a stream says: that it wants one, and of which states."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from neverstale.api.reads.answer import Wish
from neverstale.api.web.demands import EVENTS, wish_of
from neverstale.api.web.problems import bad_parameter
from neverstale.versions import Version, from_hex

Headers = Iterable[tuple[bytes, bytes]]

LAST_EVENT_ID: Final = "Last-Event-ID"


def wants_events(headers: Headers) -> bool:
    """Whether `Accept` names `text/event-stream`, and likes JSON no better (RFC 9110, section 12.5.1)."""
    weights: dict[bytes, float] = {}
    for name, value in headers:
        if name == b"accept" and EVENTS in value.lower():
            for part in value.lower().split(b","):
                media_type, *parameters = (piece.strip() for piece in part.split(b";"))
                weights[media_type] = _weight(parameters)
    return weights.get(EVENTS, 0.0) > 0 and weights[EVENTS] >= weights.get(b"application/json", 0.0)


def _weight(parameters: Iterable[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def live_wish(headers: Headers) -> Wish:
    """What the first state must meet; a `Problem` names what makes no sense.

    Browsers send `no-cache` with every `EventSource`, whoever wrote the page: here it demands nothing. A stream waits
    for no cache anyhow.
    """
    headers = list(headers)
    wish = wish_of(headers)
    last = max((_version(value) for name, value in headers if name == b"last-event-id"), default=0)
    return replace(
        wish,
        no_cache=False,
        only_if_cached=False,
        stale_if_error_seconds=None,
        min_version=max(wish.min_version, last),
    )


def _version(value: bytes) -> Version:
    text = value.strip(b" \t")
    if not text:
        return 0
    try:
        return from_hex(text)
    except ValueError:
        raise bad_parameter(LAST_EVENT_ID, "expected 16 lower-case hex digits, as in the id of an event") from None
