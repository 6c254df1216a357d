"""What MongoDB refuses for now: each source by itself, asked again after pauses that grow.

A collection that is capped, or that our user may not read, will refuse the next request, too. So it is not asked for
each request, and what it says is kept where people look: `/readyz`, `/v1/freshness`, a metric and the log. Nothing of
this concerns any other source, and the breaker does not hear of it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from neverstale.errors import Refused
from neverstale.role import telemetry
from neverstale.role.service import Health

log = telemetry.logger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.1
"""What may pass by itself does so at once: a collection has snapshot reads a moment after it was made."""
LASTING_PAUSE_SECONDS: Final = 1.0
"""What only a person can change."""
LONGEST_PAUSE_SECONDS: Final = 30.0


@dataclass(slots=True)
class _Standing:
    refusal: Refused
    pause: float
    until: float
    times: int = 1
    probed: bool = False
    """Somebody has gone on to MongoDB since the last refusal."""


class Refusing:
    """The sources of one process that MongoDB refuses. `health` names them; they never make a process unready."""

    def __init__(self, health: Health, clock: Callable[[], float] = time.monotonic) -> None:
        self._health = health
        self._clock = clock
        self._standing: dict[str, _Standing] = {}

    @property
    def reasons(self) -> Mapping[str, str]:
        """By source, why it is refused."""
        return {name: one.refusal.reason for name, one in self._standing.items()}

    def of(self, source: str) -> Refused | None:
        """What a read would be answered with now, without asking MongoDB."""
        one = self._standing.get(source) if self._standing else None
        return one.refusal if one is not None and self._clock() < one.until else None

    def seconds(self, source: str) -> float:
        """Until MongoDB is asked again."""
        one = self._standing.get(source)
        return max(one.until - self._clock(), 0.0) if one is not None else 0.0

    def probe(self, source: str) -> Refused | None:
        """Returns the same as `of`; but once the pause is over, who asks is the only one who may go on to MongoDB."""
        one = self._standing.get(source) if self._standing else None
        if one is None:
            return None
        now = self._clock()
        if now < one.until:
            return one.refusal
        one.until, one.probed = now + one.pause, True
        return None

    def note(self, source: str, refusal: Refused) -> None:
        """MongoDB has refused a read of this source."""
        telemetry.REFUSED.labels(source, str(refusal.code or refusal.name)).inc()
        if not refusal.lasts:
            return
        one = self._standing.get(source)
        if one is None or one.refusal.code != refusal.code:
            first = FIRST_PAUSE_SECONDS if refusal.heals else LASTING_PAUSE_SECONDS
            one = self._standing[source] = _Standing(refusal, first, self._clock() + first)
            telemetry.REFUSING.labels(source).set(1)
            self._health.wrong(source, f"MongoDB refuses it: {refusal.reason}")
        elif not one.probed:
            return  # it was under way with the one before
        else:
            one.times, one.probed = one.times + 1, False
            one.pause = min(2 * one.pause, LONGEST_PAUSE_SECONDS)
            one.until = self._clock() + one.pause
        if not one.times & (one.times - 1):  # the first, the second, the fourth, ...: seldom
            log.warning(
                "refused", source=source, code=refusal.code, name=refusal.name, remedy=refusal.remedy, times=one.times
            )

    def answered(self, source: str) -> None:
        """MongoDB has answered a read of this source."""
        if self._standing and self._standing.pop(source, None) is not None:
            telemetry.REFUSING.labels(source).set(0)
            self._health.parts.pop(source, None)
            log.info("refused_no_more", source=source)
