"""Some of the plain hits are measured: every so often the next one. The others pay nothing for it, since what
measures takes the place of what answers for that one request.
"""

import asyncio
from time import monotonic, time_ns
from typing import Final, NoReturn

from neverstale.api.freshness.bound import Bounds
from neverstale.api.hits.fast_path import Hot
from neverstale.api.reads.ask import Ask
from neverstale.api.reads.l1 import Reading
from neverstale.api.server.cycle import Cycle
from neverstale.api.web.demands import PLAIN, Plain
from neverstale.api.web.route_names import route_of
from neverstale.role import telemetry, traces
from neverstale.role.retry import forever
from neverstale.versions import Version

SAMPLE_SECONDS: Final = 0.05
"""Twenty of each kind in a second are enough for a percentile."""


class MeasuredCycle(Cycle):
    """Tells how long it took until a hit in Redis was written."""

    __slots__ = ()

    def hit(self, entry: bytes, watermark: Version, reading: Reading | None) -> None:
        began, hot = self.began, self._hot
        route = self.source.name
        super().hit(entry, watermark, reading)
        trace_hit(route, began, "l2")
        telemetry.HIT_SECONDS.labels("l2").observe(monotonic() - began)
        tell_bound(hot.bounds, watermark)


class Sampling:
    """Measures hits of the fast path of one process."""

    def __init__(self, hot: Hot) -> None:
        self._hot = hot
        self._look, self._start = hot.look, hot.start
        self._measured = asyncio.Event()

    async def keep(self) -> NoReturn:
        """Have the next hit of each kind measured, again and again. While there are none, this does nothing."""

        async def arm() -> float:
            self._hot.look, self._hot.start = self.look, self.start
            self._measured.clear()
            await self._measured.wait()
            return SAMPLE_SECONDS

        await forever(arm)

    def look(self, line: bytes, plain: Plain = PLAIN) -> bytes | None:
        began, hot = monotonic(), self._hot
        hot.look = self._look
        self._measured.set()
        tail = self._look(line, plain)
        if tail is not None:
            asyncio.get_running_loop().call_soon(self._turn_ends, began, line)
            tell_bound(hot.bounds, hot.shared.evidence.watermark)
        return tail

    def start(self, ask: Ask) -> None:
        self._hot.start = self._start
        self._measured.set()
        if type(ask) is Cycle:
            ask.__class__ = MeasuredCycle
            ask.began = monotonic()
        self._start(ask)

    def _turn_ends(self, began: float, line: bytes) -> None:
        telemetry.HIT_SECONDS.labels("l1").observe(monotonic() - began)
        if traces.provider() is not None and (found := self._hot.find(line)) is not None:
            trace_hit(found[0].name, began, "l1")


def trace_hit(source: str, began: float, kept: str) -> None:
    """A span, after the fact. What the caller says of a trace of its own is not read here."""
    tracer = traces.tracer()
    if tracer is None:
        return
    from opentelemetry.trace import SpanKind

    route, end = route_of(source), time_ns()
    start = end - round((monotonic() - began) * 1e9)
    attributes = {"http.request.method": "GET", "http.route": route, "neverstale.detail": kept}
    tracer.start_span(f"GET {route}", kind=SpanKind.SERVER, attributes=attributes, start_time=start).end(end)


def tell_bound(bounds: Bounds, complete: Version) -> None:
    bound = bounds.bound(complete)
    if bound is not None:
        telemetry.SERVED_BOUND.observe(bound)
