"""The horizon: the latest version that can be real.

A record with a version that MongoDB has not reached would raise `applied` for good, and no read could ever be late
enough again. Versions are MongoDB's clock and may be far from every wall clock, so they are compared with that clock:
asked for once a minute, carried on in between, and asked again whenever a record lies beyond. Before MongoDB has
answered for the first time our own clock must do.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from neverstale.errors import Outage, Refused
from neverstale.role.retry import forever
from neverstale.versions import Version

ASK_SECONDS: Final = 60.0
AWAY_SECONDS: Final = 5.0
"""For so long MongoDB is not asked again once it was away: each question costs its deadline."""


class Horizon:
    """Knows the latest version that can be real.

    `now` returns a version >= every change that was acknowledged before it was called.
    """

    def __init__(
        self,
        now: Callable[[], Awaitable[Version]],
        tolerance_seconds: float,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._tolerance_seconds = tolerance_seconds
        self._clock = clock
        self._seconds, self._at = wall(), clock()
        self._not_before = float("-inf")

    def latest(self) -> Version:
        """The latest version that is believed without asking."""
        seconds = self._seconds + self._clock() - self._at + self._tolerance_seconds
        return int(seconds) << 32 | 0xFFFFFFFF

    async def ask(self) -> Version | None:
        """The present; `None`: MongoDB is away."""
        if self._clock() < self._not_before:
            return None
        try:
            present = await self._now()
        except (Outage, Refused):
            self._not_before = self._clock() + AWAY_SECONDS
            return None
        self._seconds, self._at = present >> 32, self._clock()
        return present

    async def keep(self) -> NoReturn:
        """Ask every now and then, until cancelled."""

        async def ask() -> float:
            return AWAY_SECONDS if await self.ask() is None else ASK_SECONDS

        await forever(ask)
