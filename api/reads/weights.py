"""How large the answers of one source are, as far as has been seen lately: so that what is read together has a size
that memory and the event loop can bear, and small answers may be read many at once."""

import time
from collections.abc import Callable
from typing import Final

UNKNOWN_BYTES: Final = 16 << 10
"""How large an answer is taken to be until the first was seen."""
HALF_LIFE_SECONDS: Final = 60.0
"""Small answers make large ones forgotten only slowly: they may come again."""


class Weight:
    """The size of the answers of one source in one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bytes = 0.0
        self._as_of: float | None = None

    def saw(self, size: int, count: int) -> None:
        """So many answers had so many bytes together. Absences say nothing."""
        if not count:
            return
        now = self._clock()
        self._bytes = max(size / count, self._faded(now))
        self._as_of = now

    def of_one(self) -> float:
        """Bytes that an answer has, in the mean."""
        return UNKNOWN_BYTES if self._as_of is None else max(self._faded(self._clock()), 1.0)

    def room(self, size: int) -> int:
        """How many answers have so many bytes together; at least one."""
        return max(int(size / self.of_one()), 1)

    def _faded(self, now: float) -> float:
        return 0.0 if self._as_of is None else self._bytes * 0.5 ** ((now - self._as_of) / HALF_LIFE_SECONDS)
