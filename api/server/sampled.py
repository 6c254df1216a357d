"""Some of the plain hits are measured: every so often the next one. The others pay nothing for it, since what
measures takes the place of what answers for that one request.
"""

import asyncio
from time import monotonic
from typing import Final, NoReturn

from neverstale.api.freshness.bound import Bounds
from neverstale.api.hits.fast_path import Hot
from neverstale.api.reads.ask import Ask
from neverstale.api.reads.l1 import Reading
from neverstale.api.server.cycle import Cycle
from neverstale.api.web.demands import PLAIN, Plain
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.versions import Version

SAMPLE_SECONDS: Final = 0.05
"""Twenty of each kind in a second are enough for a percentile."""


class MeasuredCycle(Cycle):
    """Tells how long it took until a hit in Redis was written."""

    __slots__ = ()

    def hit(self, entry: bytes, watermark: Version, reading: Reading | None) -> None:
        began, hot = self.began, self._hot
        super().hit(entry, watermark, reading)
        telemetry.HIT_SECONDS.labels("l2").observe(monotonic() - began)
        tell_bound(hot.bounds, watermark)


class Sampling:
    """Measures hits of the fast path of one process."""

    def __init__(self, hot: Hot) -> None:
        self._hot = hot
        self._look, self._start = hot.look, hot.start

    async def keep(self) -> NoReturn:
        """Have the next hit of each kind measured, again and again."""

        async def arm() -> float:
            self._hot.look, self._hot.start = self.look, self.start
            return SAMPLE_SECONDS

        await forever(arm)

    def look(self, line: bytes, plain: Plain = PLAIN) -> bytes | None:
        began, hot = monotonic(), self._hot
        hot.look = self._look
        tail = self._look(line, plain)
        if tail is not None:
            asyncio.get_running_loop().call_soon(self._turn_ends, began)
            tell_bound(hot.bounds, hot.l1.watermark)
        return tail

    def start(self, ask: Ask) -> None:
        self._hot.start = self._start
        if type(ask) is Cycle:
            ask.__class__ = MeasuredCycle
            ask.began = monotonic()
        self._start(ask)

    def _turn_ends(self, began: float) -> None:
        telemetry.HIT_SECONDS.labels("l1").observe(monotonic() - began)


def tell_bound(bounds: Bounds, complete: Version) -> None:
    bound = bounds.bound(complete)
    if bound is not None:
        telemetry.SERVED_BOUND.observe(bound)
