"""Proofs: MongoDB itself says how old a read of it can be, while marks are late.

A mark comes a long way: through the change stream, Kafka, a consumer and Redis. While any of these stands still, what
was read from MongoDB this moment could only state the age of the last mark. So a process then asks MongoDB for a
version that is not below anything acknowledged before the question (`Loader.now`). That is a mark like any other,

    every change that a majority acknowledged before we asked has a version <= v,

and a read vouches for itself by it if it is of a version >= v, whoever read it, and whenever. For that alone v has to
be known before the read is issued: the read then asks for a state at or after v. Its bound counts from the question,
never from the answer to it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from neverstale.api.freshness.bound import Bounds
from neverstale.errors import NeverstaleError
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.role import telemetry
from neverstale.role.tasks import Tasks
from neverstale.versions import Version

log = telemetry.logger(__name__)

YOUNG_SECONDS: Final = 0.2
"""While what is known is younger, nothing is asked."""
LATE_SECONDS: Final = 0.35
"""When it is older, reads wait for the proof; before, they leave at once and the next ones have it."""
APART_SECONDS: Final = 0.05
"""Questions of one process are at least so far apart."""
PATIENCE_SECONDS: Final = 0.3
"""No read waits longer for a proof. Without a majority there is none."""
PAUSE_SECONDS: Final = 1.0
"""After one that failed. Until one succeeds, nobody waits."""


class Proofs:
    """Proves the age of what one process reads from MongoDB. `now`: `Loader.proof`, which should give up after
    `PATIENCE_SECONDS`."""

    def __init__(
        self,
        now: Callable[[], Awaitable[Version]],
        marks: Bounds,
        clock: PrimaryClock,
        tasks: Tasks,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._marks = marks
        self._clock = clock
        self._tasks = tasks
        self._monotonic = monotonic
        self._under_way: asyncio.Future[None] | None = None
        self._not_before = 0.0
        self._failed = False

    @property
    def reached(self) -> Version:
        """MongoDB has reached this; a read that misses nothing up to it is as young as can be shown."""
        return self._marks.newest

    def expect(self) -> None:
        """A read will be issued soon: if it will want a proof, ask for it now."""
        age = self._marks.age
        if age is None or age > YOUNG_SECONDS:
            self._ask()

    async def ready(self) -> None:
        """Before a read is issued: wait until it can be shown to be young, if that takes no longer than it may."""
        age = self._marks.age
        if age is not None and age <= YOUNG_SECONDS:
            return
        self._ask()
        if self._under_way is not None and not self._failed and (age is None or age > LATE_SECONDS):
            await asyncio.wait((self._under_way,), timeout=PATIENCE_SECONDS)

    def _ask(self) -> None:
        asked, wall_ms = self._monotonic(), self._clock.earliest_ms()
        if self._under_way is not None or asked < self._not_before or wall_ms is None:
            return
        self._not_before = asked + APART_SECONDS
        self._under_way = asyncio.get_running_loop().create_future()
        self._tasks.start(self._prove(self._under_way, asked, wall_ms), "proof")

    async def _prove(self, done: "asyncio.Future[None]", asked: float, wall_ms: float) -> None:
        failed = True
        try:
            self._marks.prove(await self._now(), wall_ms, asked)
            failed = False
        except NeverstaleError as error:
            if not self._failed:
                log.warning("proof_failed", reason=str(error))
        finally:
            telemetry.PROOFS.labels("failed" if failed else "proved").inc()
            if failed:
                self._not_before = self._monotonic() + PAUSE_SECONDS
            self._failed, self._under_way = failed, None
            done.set_result(None)
