"""Doing a thing again: how long to wait before it, and the one loop without end."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from random import random
from typing import Final, NoReturn

from neverstale.cancellation import heed

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.5


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


async def forever(work: Callable[[], Awaitable[float]]) -> NoReturn:
    """Do `work` again and again until cancelled; it returns how many seconds to wait before the next time."""
    while True:
        heed()
        await asyncio.sleep(await work())
