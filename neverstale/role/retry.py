"""Doing a thing again: how long to wait before it, and the two loops that do it, until it is done and for ever."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from random import random
from typing import Final, NoReturn, TypeVar

from neverstale.errors import Retry
from neverstale.role.cancellation import heed
from neverstale.role.ticks import until_tick

T = TypeVar("T")

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.5
FIRST_REFUSED_SECONDS: Final = 0.5
LONGEST_REFUSED_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.5
"""So often a pause looks whether what comes after it is still wanted."""


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
        """Seconds to wait. They begin with the first again when nobody has asked for twice the longest pause."""
        now = self._clock()
        if now - self._asked_at > 2 * LONGEST_REFUSED_SECONDS:
            self._pauses = pauses(first=FIRST_REFUSED_SECONDS, longest=LONGEST_REFUSED_SECONDS)
        self._asked_at = now
        return next(self._pauses)


class Unwanted(Exception):
    """Nobody wants any more what was going to be tried again."""


class Wanted:
    """Says whether what takes long is still wanted: it is until `stop` is set (the role's end) or `end` is called."""

    def __init__(self, stop: asyncio.Event | None = None) -> None:
        self._stop = stop or asyncio.Event()
        self.ended = False
        """By `end`, whatever the role does."""

    def end(self) -> None:
        self.ended = True

    def __bool__(self) -> bool:
        return not (self.ended or self._stop.is_set())

    async def pause(self, seconds: float) -> None:
        """Wait so long. Raises `Unwanted` if it is not wanted any more, which a long pause notices soon."""
        until = time.monotonic() + seconds
        while self and (left := until - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await self._stop.wait()
        if not self:
            raise Unwanted


async def until_done(work: Callable[[], Awaitable[T]], wanted: Wanted, waits: Callable[[Retry], float | None]) -> T:
    """Return what `work` returns, however often it must be tried.

    `waits` is told why an attempt failed; it may say how many seconds to wait, or raise. Otherwise pauses grow as
    `pauses` says. Every error that is no `Retry` is raised. Raises `Unwanted` when an attempt has failed and nobody
    wants another one; there is always a first.
    """
    usual: Iterator[float] | None = None
    while True:
        try:
            return await work()
        except Retry as error:
            pause = waits(error)
        heed()
        usual = usual or pauses()
        await wanted.pause(next(usual) if pause is None else pause)


async def forever(work: Callable[[], Awaitable[float | None]]) -> NoReturn:
    """Do `work` again and again until cancelled. It returns how many seconds to wait before the next time, at most
    (see `neverstale.role.ticks`); `None`: it has waited itself."""
    while True:
        pause = await work()
        heed()
        if pause is not None:
            await asyncio.sleep(until_tick(pause))
