"""What a stream says, as bytes of `text/event-stream` (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    : bound 0.052                        how old the state can be at most, in seconds, when this was written
    id: 5117a1b300000001                 its version
    data: {"_id":"UA650",…}              what a `GET` answers

A state that there is nothing has `event: absent`, and the problem details of the 404 as its data; a read that failed
is `event: problem`. Between states there are comments, each with the bound.
"""

import math
from typing import Final

from neverstale.api.web.demands import EVENTS
from neverstale.versions import Version, to_hex

EVENT_HEADERS: Final = (
    (b"content-type", EVENTS),
    (b"cache-control", b"no-store"),
    (b"vary", b"accept"),
    (b"x-accel-buffering", b"no"),
    (b"connection", b"close"),
)
"""Nothing on the way may keep a stream, gather it or pack it; the connection ends with it."""


class Words:
    """Something to be written to many connections."""

    __slots__ = ("chunk", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.chunk = b"%x\r\n%b\r\n" % (len(text), text)
        """As HTTP/1.1 frames it (RFC 9112, section 7.1)."""


def state(version: Version, body: bytes) -> bytes:
    """`body`: JSON."""
    return b"id: %b\n%b\n" % (to_hex(version).encode(), _data(body))


def absent(version: Version, problem: bytes) -> bytes:
    """There is nothing at this version; `problem`: the body of the 404."""
    return b"event: absent\nid: %b\n%b\n" % (to_hex(version).encode(), _data(problem))


def trouble(problem: bytes) -> bytes:
    """A read has failed, and will be tried again; the last state is what there is. It has no id."""
    return b"event: problem\n%b\n" % _data(problem)


def bound_line(bound: float | None) -> bytes:
    """Rounded up; `None`: unknown. Two of them, or one before an event, make a block."""
    if bound is None:
        return b": bound unknown\n"
    return b": bound %.3f\n" % (math.ceil(bound * 1000) / 1000)


def retry(milliseconds: int) -> bytes:
    """When to come back once the stream has ended."""
    return b"retry: %d\n\n" % milliseconds


def _data(text: bytes) -> bytes:
    # JSON of ours has no line breaks; whatever has some must not break the block.
    return b"".join(b"data: %b\n" % line for line in text.splitlines()) if b"\n" in text else b"data: %b\n" % text
