"""The bytes of a live read, as events. No network is in it.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, and docs/live.md for what ours say.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from neverstale.client.failures import Unintelligible
from neverstale.client.fresh import seconds_of

MEDIA_TYPE: Final = "text/event-stream"
MOST_BYTES: Final = 64 << 20
"""Of one event: a document has at most 16 MiB, and JSON of it some times that."""
_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """A state, an absence or a problem."""

    name: str
    """`message`, `absent` or `problem`; a stream may say more one day."""
    id: str
    """The version as 16 hex digits, or empty."""
    data: bytes


@dataclass(frozen=True, slots=True)
class BoundTold:
    """How old the last state can be at most, when this was written; `None`: unknown."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class RetryTold:
    """When to come back."""

    seconds: float


Told: TypeAlias = LiveEvent | BoundTold | RetryTold


class EventStream:
    """What has come of one stream so far."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False
        self._id = ""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Told]:
        """What the next bytes say; raises `Unintelligible` where an event has no end."""
        self._rest += chunk
        if not self._begun and len(self._rest) >= len(_BOM):
            self._begun, self._rest = True, self._rest.removeprefix(_BOM)
        # A carriage return at the end may be the first half of a line end.
        *lines, self._rest = _lines(self._rest)
        for line in lines:
            yield from self._line(line)
        if len(self._rest) + self._size > MOST_BYTES:
            raise Unintelligible("an event has no end")

    def _line(self, line: bytes) -> Iterator[Told]:
        if not line:
            yield from self._dispatch()
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"":
                if value.startswith(b"bound "):
                    yield BoundTold(seconds_of(value[6:].decode("ascii", "replace")))
            case b"data":
                self._data.append(value)
                self._size += len(value)
            case b"event":
                self._name = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit() and len(value) < 10:
                yield RetryTold(int(value) / 1000)

    def _dispatch(self) -> Iterator[Told]:
        data, name = self._data, self._name
        self._data, self._name, self._size = [], "", 0
        if data:
            yield LiveEvent(name or "message", self._id, b"\n".join(data))


def _lines(text: bytes) -> list[bytes]:
    """The lines of a text, the last one without its end."""
    held = text[-1:] == b"\r"
    parts = _LINE_END.split(text[:-1] if held else text)
    if held:
        parts[-1] += b"\r"
    return parts
