"""Plays the week at a pace, with as many writers at once as the pace needs; then the same week again."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from neverstale.ops.demo.flights.board import Week
from neverstale.ops.demo.flights.replay import Happening, happenings, steps
from neverstale.ops.demo.flights.writers import Writers
from neverstale.ops.stack.process import at_once

WRITERS: Final = 32
"""Steps under way at once."""
LATE_SECONDS: Final = 0.5
"""After an outage the replay goes on from where it stands; it does not make up for lost time in a rush."""


class Player:
    """Plays until it is told to stop."""

    def __init__(self, week: Week, writers: Writers, per_second: float, show_now: Callable[[int], None]) -> None:
        self._week = week
        self._writers = writers
        self._per_second = per_second
        self._show_now = show_now
        self._departures = [flight.sched_dep for flight in week.flights]
        self._steps = list(steps(happenings(week.flights)))
        self.now: int | None = None
        """The flight that is to leave next on the board, by its number; `None`: nothing was played yet."""
        self.changes = 0
        """Documents changed, acknowledged by the majority."""
        self.weeks = 0
        """Times that the week was played to its end."""

    async def play(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set and every write that was begun has ended."""
        room = asyncio.Semaphore(WRITERS)
        due = time.monotonic()
        async with at_once() as group:
            for step in self._endless():
                await _until(due, stop)
                await room.acquire()
                if stop.is_set():
                    return
                group.create_task(self._write(step, room))
                due = max(due, time.monotonic() - LATE_SECONDS) + _size(step) / self._per_second

    async def _write(self, step: Sequence[Happening] | None, room: asyncio.Semaphore) -> None:
        try:
            if step is None:
                changed = await self._writers.begin_week()
                self.weeks += 1
            else:
                self.now = min(bisect_left(self._departures, step[0].at), len(self._departures) - 1)
                self._show_now(self.now)
                changed = await self._writers.write(step)
            self.changes += changed  # not in one with the await: others add to it meanwhile
        finally:
            room.release()

    def _endless(self) -> Iterator[Sequence[Happening] | None]:
        """The week's steps, then `None` for "begin again", and so on."""
        while True:
            yield from self._steps
            yield None


def _size(step: Sequence[Happening] | None) -> int:
    return sum(len(item.flights) for item in step) if step else 0


async def _until(moment: float, stop: asyncio.Event) -> None:
    if (left := moment - time.monotonic()) > 0:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), left)
