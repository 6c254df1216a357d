"""Saying a thing once, not a thousand times a second: what we say ourselves, and what libraries say.

aiokafka says ten times a second that a topic is missing.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

OURS_SECONDS: Final = 10.0
LIBRARIES_SECONDS: Final = 60.0
REMEMBERED: Final = 256


class Seldom:
    """Says whether it is time to speak again, and counts what was left unsaid."""

    def __init__(self, seconds: float = OURS_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
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


class Repetitions(logging.Filter):
    """Lets each message of these loggers through once in a while, with how often it was said since."""

    def __init__(
        self,
        loggers: Sequence[str],
        seconds: float = LIBRARIES_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._loggers = tuple(loggers)
        self._seconds = seconds
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}
        """Message -> since when it is not said again, and how often it would have been."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(self._loggers):
            return True
        message, now = record.getMessage(), self._clock()
        since, unsaid = self._said.get(message, (float("-inf"), 0))
        if now - since < self._seconds:
            self._said[message] = since, unsaid + 1
            return False
        if len(self._said) >= REMEMBERED:
            self._said.clear()
        self._said[message] = now, 0
        if unsaid:
            record.msg, record.args = f"{message} ({unsaid + 1} times)", ()
        return True
