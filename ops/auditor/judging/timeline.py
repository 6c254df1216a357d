"""What MongoDB had shown by when.

A sample says: by this moment (our monotonic clock) the state of this version could be read with majority. So every
change up to that version was committed before the moment, and an answer that was asked for more than b seconds after
it, and states a bound of b, must contain it. A sample that is taken late makes nobody guilty: it only lets somebody
go.
"""

from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

from neverstale.versions import Version

KEEP_SECONDS: Final = 240.0
"""MongoDB keeps states for 300 seconds, unless it is told otherwise."""
APART_SECONDS: Final = 0.004
"""Samples are at least so far apart."""
TRIM: Final = 4096


class SeenVersion(NamedTuple):
    at: float
    """Monotonic seconds."""
    version: Version


class Timeline:
    """The samples of the last minutes, in order."""

    def __init__(self, keep_seconds: float = KEEP_SECONDS, apart_seconds: float = APART_SECONDS) -> None:
        self._keep = keep_seconds
        self._apart = apart_seconds
        self._at: list[float] = []
        self._versions: list[Version] = []

    def __len__(self) -> int:
        return len(self._at)

    @property
    def last(self) -> Version:
        """The highest version that was seen; 0: none."""
        return self._versions[-1] if self._versions else 0

    def saw(self, version: Version, at: float) -> None:
        """The state of a version was read, or a change of it told, before this moment. Moments come in order."""
        if self._at and (version <= self._versions[-1] or at - self._at[-1] < self._apart):
            return
        self._at.append(at)
        self._versions.append(version)
        if len(self._at) % TRIM == 0:
            old = bisect_left(self._at, at - self._keep)
            del self._at[:old], self._versions[:old]

    def before(self, moment: float) -> SeenVersion | None:
        """The last sample from before a moment."""
        place = bisect_left(self._at, moment)
        return self._sample(place - 1) if place else None

    def first(self, version: Version) -> SeenVersion | None:
        """The first sample of this version or a later one."""
        place = bisect_left(self._versions, version)
        return self._sample(place) if place < len(self._versions) else None

    def beyond(self, version: Version, until: SeenVersion) -> list[SeenVersion]:
        """The samples with later versions than this one, up to and with another sample, in order."""
        first = bisect_right(self._versions, version)
        last = bisect_right(self._versions, until.version)
        return [self._sample(place) for place in range(first, last)]

    def _sample(self, place: int) -> SeenVersion:
        return SeenVersion(self._at[place], self._versions[place])
