"""What was acknowledged when, and so how late an answer is."""

import random
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field

from neverstale.versions import Version

GRACE_SECONDS = 1.0
"""An answer is stale if what it shows had been replaced, and that been acknowledged, longer than this before it was
asked for. Every cache that follows changes lags by some milliseconds; this is not about those."""
RECENT = 300
FAVOURITES = 0.8
"""Share of the reads that ask for what was written of late: nobody looks at a flight that nothing happens to."""


@dataclass
class Truth:
    """Is told of every write (`neverstale.ops.demo.flights.turns.Noted`). Flights are known by their number."""

    begun: dict[int, int] = field(default_factory=dict)
    removals: dict[int, list[int]] = field(default_factory=dict)
    """Flight -> the revisions that are its absence."""
    sent: dict[tuple[int, int], float] = field(default_factory=dict)
    """Flight and revision -> when it was sent (monotonic)."""
    acknowledged: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    """Flight -> revisions, and when they were acknowledged (monotonic), ascending."""
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=RECENT))
    written: set[int] = field(default_factory=set)
    """Since `begin_phase`."""

    def begin(self, key: int, at: float, *, removal: bool = False) -> int:
        revision = self.begun[key] = self.begun.get(key, 0) + 1
        self.sent[key, revision] = at
        if removal:
            self.removals.setdefault(key, []).append(revision)
        return revision

    def acknowledge(self, key: int, revision: int, at: float, version: Version) -> None:
        self.acknowledged.setdefault(key, []).append((revision, at))
        self.recent.append(key)
        self.written.add(key)

    def since(self, key: int, now: float) -> float:
        """Seconds since the last write was acknowledged."""
        return now - self.acknowledged[key][-1][1]

    def moments(self, since: float) -> dict[int, list[tuple[float, float]]]:
        """Flight -> when each revision was sent, and when acknowledged, ascending; of those that were sent later."""
        found = {
            key: [(self.sent[key, revision], at) for revision, at in known if self.sent[key, revision] >= since]
            for key, known in self.acknowledged.items()
        }
        return {key: moments for key, moments in found.items() if moments}

    def begin_phase(self) -> None:
        self.recent.clear()
        self.written.clear()

    def late(self, key: int, revision: int | None, asked: float) -> float:
        """Seconds since what an answer shows had been replaced when it was asked for; 0: it had not. `revision`: what
        it shows; `None`: that there is no such flight."""
        known = self.acknowledged.get(key, ())
        if revision is None:
            revision = max((one for one in self.removals.get(key, ())), default=0)
        following = bisect_right(known, revision, key=lambda one: one[0])
        return max(asked - known[following][1], 0.0) if following < len(known) else 0.0

    def pick(self, dice: random.Random, count: int) -> int:
        """A flight for a reader to ask for, of so many."""
        if self.recent and dice.random() < FAVOURITES:
            return self.recent[dice.randrange(len(self.recent))]
        return dice.randrange(count)
