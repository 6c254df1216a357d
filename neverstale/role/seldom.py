"""Saying a thing once, not a thousand times a second."""

import time
from collections.abc import Callable


class Seldom:
    """Answers whether it is time to speak again, and counts what was left unsaid."""

    def __init__(self, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = float("-inf")
        self._unsaid = 0

    def due(self, times: int = 1) -> int | None:
        """`None`: not now. Otherwise how often it happened since it was last said, these `times` included."""
        self._unsaid += times
        now = self._clock()
        if now < self._next:
            return None
        self._next = now + self._seconds
        said, self._unsaid = self._unsaid, 0
        return said
