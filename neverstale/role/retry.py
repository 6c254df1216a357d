"""Doing a thing again: how long to wait before it, and the one loop without end."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from random import random
from typing import Final, NoReturn

from neverstale.role.cancellation import heed

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.5
FIRST_REFUSED_SECONDS: Final = 0.5
LONGEST_REFUSED_SECONDS: Final = 30.0


def pauses(
    chance: Callable[[], float] = random,
    *,
    first: float = FIRST_PAUSE_SECONDS,
    longest: float = LONGEST_PAUSE_SECONDS,
) -> Iterator[float]:
    """Seconds to wait before the next attempt: doubling up to the longest, each with jitter, without end."""
    pause = first
    while True:
        yield pause * (0.5 + chance() / 2)
        pause = min(2 * pause, longest)


class Patience:
    """Pauses that grow from time to time of asking: for what lasts until a human does something."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked_at = float("-inf")
        self._pauses: Iterator[float] = iter(())

    def pause(self) -> float:
        """Seconds to wait. They begin anew when nobody has asked for twice the longest pause."""
        now = self._clock()
        if now - self._asked_at > 2 * LONGEST_REFUSED_SECONDS:
            self._pauses = pauses(first=FIRST_REFUSED_SECONDS, longest=LONGEST_REFUSED_SECONDS)
        self._asked_at = now
        return next(self._pauses)


async def forever(work: Callable[[], Awaitable[float]]) -> NoReturn:
    """Do `work` again and again until cancelled; it returns how many seconds to wait before the next time."""
    while True:
        heed()
        await asyncio.sleep(await work())
