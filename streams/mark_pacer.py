"""When to say, in every partition, "everything up to here has been published before me".

The version. A post-batch token with the time T promises that everything *before* T has been delivered: behind
an event it is that event's own token, and more events of the same transaction may follow; on an empty batch it
is a high-water mark, an exclusive bound (MongoDB 6.0.5 gives (T, 2) while the last operation was (T, 1)). So a
mark's version is the token's time minus one.

The wall time. A mark also says that every change acknowledged by a majority before `wall_ms` (the primary's
clock) has a version up to the mark's. Any event in hand gives such a time, its `wallTime` w: let t be its
cluster time and W its token's time minus one, so t <= W + 1. The primary reads w while it writes the event's
oplog entry, and acknowledges no write with a later optime before that entry is complete (no majority read and
no acknowledgement passes an open slot of the oplog). So a change acknowledged before w has a version below t, or
t itself, if it is of the event's own transaction; but that one is acknowledged after w. Hence its version is at
most t - 1 <= W.

The pace. At most every `interval_seconds` while events come, and with every heartbeat; both only if it says
something new.
"""

from dataclasses import dataclass

from neverstale.kafka.events import Mark
from neverstale.versions import Version


@dataclass(slots=True)
class MarkPacer:
    """Decides which batch is followed by a mark, and what the mark says."""

    partitions: int
    term: int
    interval_seconds: float
    topic: str | None = None
    """The topic's id, for those who read on in another topic of the same name."""
    collections: tuple[str, ...] | None = None
    """Those that are watched."""
    version: Version = 0
    """The version of the last mark."""
    _wall_ms: int | None = None
    _marked_at: float = float("-inf")

    def saw(self, wall_ms: int | None) -> None:
        """An event with this wall time was put to the publisher, or needed no record."""
        if wall_ms is not None:
            self._wall_ms = wall_ms

    def due(self, token_version: Version, now: float, *, heartbeat: bool, trace: str | None = None) -> Mark | None:
        """The mark to publish behind a batch whose post-batch token has this time, if one is due.

        To be called when all events of the batch were put to the publisher. `now` is monotonic seconds; `trace`:
        the span of that batch.
        """
        version = token_version - 1
        if self._wall_ms is None or version <= self.version:
            return None
        if not heartbeat and now - self._marked_at < self.interval_seconds:
            return None
        self.version, self._marked_at = version, now
        return Mark(version, self._wall_ms, self.partitions, self.term, self.topic, self.collections, trace)
