"""L1: answers in the memory of the process, by request line, each the tail of a response (see `api.heads`).

Redis says what is stale when it is asked; here somebody must have said so before. Consumers announce every change,
and `Channel` hands that on. Two things make it safe:

- **Nothing is answered that was not vouched for**: the watermark of L1 is what the channel has marked, and without
  one L1 is empty and stays so.
- **The place is held before the read.** A reader announces which keys it will read from Redis, and an announcement
  that comes in between spoils the reading of that key. Otherwise a value that was read before a change was applied
  could be kept after the change was announced, for good.
"""

from collections.abc import Callable, Container, Iterable
from time import monotonic

from api.recent import Recent
from neverstale.versions import Version


class Reading:
    """Keys that are being read from Redis."""

    __slots__ = ("_spoilt", "_spoilt_keys", "keys")

    def __init__(self, keys: Container[bytes], spoilt: bool) -> None:
        self.keys = keys
        self._spoilt = spoilt
        self._spoilt_keys: set[bytes] = set()

    def good(self, key: bytes) -> bool:
        return not self._spoilt and key not in self._spoilt_keys

    def spoil(self, key: bytes) -> None:
        if key in self.keys:
            self._spoilt_keys.add(key)

    def spoil_all(self) -> None:
        self._spoilt = True


class L1:
    """`limit_bytes` 0: keeps nothing. Nothing stays longer than `life_seconds`."""

    def __init__(self, limit_bytes: int, life_seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self.watermark: Version = 0
        """Every answer here misses no change up to this version; 0: nothing is vouched for."""
        self.answers = Recent(limit_bytes)
        self._life_seconds = life_seconds
        self._clock = clock
        self._ends = clock() + life_seconds
        self._readings: set[Reading] = set()

    def begin(self, keys: Container[bytes]) -> Reading:
        """Hold the places of these keys; comes before the read is issued."""
        reading = Reading(keys, spoilt=not self.watermark)
        self._readings.add(reading)
        return reading

    def end(self, reading: Reading) -> None:
        self._readings.discard(reading)

    def keep(self, reading: Reading, key: bytes, line: bytes, tail: bytes) -> None:
        """Keep what was read, unless something was announced for it since `begin`; comes before `end`."""
        if reading.good(key) and reading in self._readings:
            self.answers.put(line, tail)

    def changed(self, key: bytes, lines: Iterable[bytes]) -> None:
        """A change of this entry was announced; `lines`: all under which its answers may be kept."""
        for reading in self._readings:
            reading.spoil(key)
        for line in lines:
            self.answers.drop(line)

    def clear(self) -> None:
        """Everything may have changed."""
        for reading in self._readings:
            reading.spoil_all()
        self.answers.clear()

    def vouch(self, watermark: Version) -> None:
        """All changes up to here have been announced. Comes after they were."""
        self.watermark = max(self.watermark, watermark)
        if self._clock() >= self._ends:
            self._ends = self._clock() + self._life_seconds
            self.answers.clear()

    def void(self) -> None:
        """Announcements may have been missed."""
        self.watermark = 0
        self.clear()
