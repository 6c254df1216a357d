"""One clock for bounds: the primary's.

Marks carry wall times of the primary. To say how old an answer can be, a process must know the primary's
clock now; it estimates it by round trips (`hello.localTime`), as NTP does: the true time lies within half a round
trip of the estimate. Between samples the local monotonic clock carries on, with an allowance for its drift.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from bson.timestamp import Timestamp
from pymongo import AsyncMongoClient

from neverstale.versions import Version, end_of

DRIFT: Final = 200e-6
"""Allowance for two clocks running apart: 200 parts in a million, twice a bad quartz."""
AHEAD_SECONDS: Final = 2.0
"""Allowance for versions: a primary that took over just now may have a clock that is a little ahead."""
RESOLUTION_MS: Final = 1.0
"""`localTime` is cut to whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Sample:
    at: float
    """Monotonic seconds, the middle of the round trip."""
    primary_ms: float
    """The primary's clock at that moment, milliseconds since 1970."""
    error_ms: float


class PrimaryClock:
    """Estimates the primary's clock. Unknown until the first sample."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._sample: Sample | None = None
        self._cluster = 0, monotonic()
        """Seconds of the primary's newest change, and when it was asked. They may be ahead of its clock."""
        self._own = wall() - monotonic()

    def now_ms(self) -> tuple[float, float] | None:
        """The primary's clock now and the half-width of the estimate, both in milliseconds; `None`: unknown."""
        sample = self._sample
        if sample is None:
            return None
        elapsed = self._monotonic() - sample.at
        return sample.primary_ms + elapsed * 1000, self._error_ms(sample, elapsed)

    def latest_ms(self) -> float | None:
        """The latest that the primary's clock can show now, in milliseconds since 1970."""
        now = self.now_ms()
        return None if now is None else now[0] + now[1]

    def earliest_ms(self) -> float | None:
        """The earliest that the primary's clock can show now, in milliseconds since 1970."""
        now = self.now_ms()
        return None if now is None else now[0] - now[1]

    def latest_version(self) -> Version:
        """What is later can be no version of this cluster. Before the first sample our own clock must do.

        The seconds of a version are those of the primary's clock, or of a version before it if that was ahead.
        """
        latest = self.latest_ms()
        seconds = latest / 1000 if latest is not None else self._own + self._monotonic()
        cluster, at = self._cluster
        return end_of(max(seconds, cluster + self._monotonic() - at) + AHEAD_SECONDS)

    async def sample(self, client: AsyncMongoClient[dict[str, Any]]) -> None:
        """Ask the primary for its time once."""
        started = self._monotonic()
        reply = await client.admin.command("hello")
        ended = self._monotonic()
        local = reply["localTime"].timestamp() * 1000
        newest: Timestamp | None = reply.get("operationTime")
        self.observe(started, local, ended, newest.time if newest is not None else 0)

    def observe(self, started: float, primary_ms: float, ended: float, cluster_seconds: int = 0) -> None:
        """Take in one round trip. A sample replaces the last one unless that one is still the sharper.

        `cluster_seconds`: of the primary's newest change.
        """
        self._cluster = cluster_seconds, ended
        sample = Sample(
            at=(started + ended) / 2,
            primary_ms=primary_ms + RESOLUTION_MS / 2,
            error_ms=(ended - started) * 500 + RESOLUTION_MS / 2,
        )
        held = self._sample
        if held is None or sample.error_ms <= self._error_ms(held, ended - held.at) or self._disagree(held, sample):
            self._sample = sample

    def _disagree(self, held: Sample, sample: Sample) -> bool:
        """Another primary, or a clock that was set: the old estimate no longer contains the new one."""
        elapsed = sample.at - held.at
        apart = abs(held.primary_ms + elapsed * 1000 - sample.primary_ms)
        return apart > sample.error_ms + self._error_ms(held, elapsed)

    @staticmethod
    def _error_ms(sample: Sample, elapsed: float) -> float:
        return sample.error_ms + elapsed * DRIFT * 1000
