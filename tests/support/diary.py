"""A diary of whole documents: what each was after every write, and when that was begun and acknowledged.

Of an answer it tells which states of a document are no breach of the answer's bound; see
`neverstale.ops.truth.oracle` for the times.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from neverstale.ops.truth.oracle import Writes

Document: TypeAlias = Mapping[str, Any]


def updated(document: Document, update: Mapping[str, Mapping[str, Any]]) -> Document:
    """What `$set`, `$unset` and `$push` of top-level fields leave of a document."""
    after = {**document, **update.get("$set", {})}
    for name in update.get("$unset", ()):
        after.pop(name, None)
    for name, value in update.get("$push", {}).items():
        after[name] = [*after.get(name, ()), value]
    return after


class Diary:
    """Writes of one key must follow one another, and all of its writes must be noted."""

    def __init__(self) -> None:
        self.writes = Writes()
        self._places: dict[str, int] = {}
        self._states: list[list[Document | None]] = []

    @property
    def keys(self) -> Sequence[str]:
        return tuple(self._places)

    @contextmanager
    def noted(self, changes: Mapping[str, Document | None]) -> Iterator[None]:
        """In here these documents are written, together; `None`: deleted."""
        begun = [(self._place(key), after) for key, after in changes.items()]
        now = time.monotonic()
        revisions = [(place, self.writes.begin(place, now)) for place, _ in begun]
        for place, after in begun:
            self._states[place].append(after)
        yield
        now = time.monotonic()
        for place, revision in revisions:
            self.writes.acknowledge(place, revision, now, 0)

    def _place(self, key: str) -> int:
        place = self._places.setdefault(key, len(self._states))
        if place == len(self._states):
            self._states.append([None])
        return place

    def possible(self, key: str, acknowledged_before: float, begun_before: float) -> Sequence[Document | None]:
        """What may be seen of a document: what was acknowledged last before a moment, or begun since then."""
        place = self._places[key]
        history = self.writes.of(place)
        first, last = history.due(acknowledged_before), history.latest_begun(begun_before)
        return self._states[place][first : last + 1]
