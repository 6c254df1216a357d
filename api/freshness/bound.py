"""How old an answer can be: marks, and the arithmetic of the bound.

A mark says: *every change that a majority acknowledged before wall time w (the primary's clock) has a version
<= m*. An answer that misses no change up to version c therefore misses no change acknowledged before w, if m <= c.
So, with the newest such mark,

    bound = latest possible time on the primary's clock now - w

Both times are of one clock, the primary's; the error of our estimate of it is on the safe side. Marks are told by the
consumers, and proved by MongoDB itself when those are late (`neverstale.api.freshness.proofs`). Three mistakes are
avoided here:

- A version is not a wall time. Its seconds are a cluster time, which may run ahead of every clock, so a version
  without a mark below it has an unknown age.
- The primary of the mark may not be the primary that we measured: after a failover to a host whose clock is behind,
  the difference would be too small, even negative. So each mark remembers how old it was when this process first
  saw it, by the clock of that moment, and ages by our own monotonic clock since: the bound is never less than that.
- What we do not know has no number: no mark or no clock means `None`, not zero and not infinity.
"""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import floor

from neverstale.mongodb.primary_clock import DRIFT, PrimaryClock
from neverstale.versions import Version

CAPACITY = 512
GAP_SHARE = 16
"""An old answer's bound may be wider by one part in so many than with all marks."""


@dataclass(frozen=True, slots=True)
class BoundMark:
    version: Version
    wall_ms: int
    seen: float
    """Monotonic seconds at which this process first saw it."""
    age: float
    """Seconds that it was old then, at most."""

    def beats(self, other: "BoundMark") -> bool:
        """Whether it says of every answer at least what the other one says."""
        born, others = self.seen - self.age, other.seen - other.age
        return self.version <= other.version and self.wall_ms >= other.wall_ms and born >= others


class Bounds:
    """The marks that this process has seen, oldest first. True for ever, whichever Redis they were read from.

    Those that another one beats are not kept. So of the marks that an answer contains, the newest says most.
    """

    def __init__(
        self, clock: PrimaryClock, monotonic: Callable[[], float] = time.monotonic, capacity: int = CAPACITY
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._capacity = capacity
        self._newest: Version = 0
        self._versions: list[Version] = []
        self._marks: list[BoundMark] = []

    @property
    def newest(self) -> Version:
        """The highest version that a mark has named: MongoDB has reached it. 0 before the first."""
        return self._newest

    @property
    def age(self) -> float | None:
        """Seconds: the bound of an answer that misses nothing that a mark has named; `None`: unknown."""
        return self.bound(self._newest)

    def latest_ms(self) -> float | None:
        """The latest time that the primary's clock can show now; `None`: unknown."""
        return self._clock.latest_ms()

    def note(self, version: Version, wall_ms: int) -> None:
        """Consumers tell a mark."""
        latest = self._clock.latest_ms()
        age = max(latest - wall_ms, 0.0) / 1000 if latest is not None else 0.0
        self._take(BoundMark(version, wall_ms, self._monotonic(), age))

    def prove(self, version: Version, wall_ms: float, asked: float) -> None:
        """MongoDB was asked at `asked` (monotonic seconds) for a version >= all that was acknowledged by then.

        `wall_ms`: the earliest that the primary's clock can have shown at that moment.
        """
        self._take(BoundMark(version, floor(wall_ms), asked, 0.0))

    def _take(self, mark: BoundMark) -> None:
        self._newest = max(self._newest, mark.version)
        place = bisect_right(self._versions, mark.version)
        if place and self._marks[place - 1].beats(mark):
            return
        first = bisect_left(self._versions, mark.version)
        last = first
        while last < len(self._marks) and mark.beats(self._marks[last]):
            last += 1
        self._versions[first:last] = [mark.version]
        self._marks[first:last] = [mark]
        if len(self._marks) > self._capacity:
            self._thin()

    def bound(self, complete: Version) -> float | None:
        """Seconds: no change acknowledged longer ago is missing from an answer that is complete up to this version.

        `None`: unknown.
        """
        latest = self._clock.latest_ms()
        place = bisect_right(self._versions, complete)
        if latest is None or not place:
            return None
        mark = self._marks[place - 1]
        since_seen = (self._monotonic() - mark.seen) * (1 + DRIFT)
        return max((latest - mark.wall_ms) / 1000, mark.age + since_seen, 0.0)

    def _thin(self) -> None:
        """Keep marks dense for young answers and sparse for old ones: a gap may be a small share of its age."""
        newest = self._marks[-1].wall_ms
        kept = [self._marks[0]]
        for mark, following in pairwise(self._marks[1:]):
            if (following.wall_ms - kept[-1].wall_ms) * GAP_SHARE > newest - mark.wall_ms:
                kept.append(mark)
        kept.append(self._marks[-1])
        self._marks = kept[-self._capacity * 3 // 4 :]
        self._versions = [mark.version for mark in self._marks]
