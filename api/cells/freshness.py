"""Freshness of many cells: of each its own, and of all of a watcher group together for those who ask for one."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from neverstale.api.freshness.bound import Bounds
from neverstale.api.freshness.watermark import IDLE, NOT_KNOWN, Evidence, Freshness
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.role.service import Health
from neverstale.versions import Version


class CellHealth(Health):
    """What one cell's reads find of Redis. `whole` is told when any cell is in trouble, and when none is."""

    def __init__(self, whole: Health, troubles: dict[str, str], cell: str) -> None:
        super().__init__()
        self._whole = whole
        self._troubles = troubles
        self._cell = cell

    def ok(self, name: str) -> None:
        super().ok(name)
        self._troubles.pop(self._cell, None)
        self._tell(name)

    def wrong(self, name: str, reason: str) -> None:
        super().wrong(name, reason)
        self._troubles[self._cell] = reason
        self._tell(name)

    def forget(self) -> None:
        """The cell is not read any more."""
        self._troubles.pop(self._cell, None)

    def _tell(self, name: str) -> None:
        if self._troubles:
            cell, reason = next(iter(self._troubles.items()))
            self._whole.wrong(name, f"{len(self._troubles)} cells, of them {cell}: {reason}")
        else:
            self._whole.ok(name)


class CellsFreshness(Freshness):
    """All cells together: nothing is younger than the cell that is furthest behind. `cells` returns that of each."""

    def __init__(self, marks: Bounds, health: Health, cells: Callable[[], Sequence[Freshness]], watches: str) -> None:
        self.marks = marks
        self.watches = watches
        self.lacks = frozenset()
        self._health = health
        self._cells = cells

    def on_void(self, call: Callable[[], None]) -> None:
        raise AssertionError("each cell is void alone")

    @property
    def identity(self) -> str | None:
        found = [one.identity for one in self._cells()]
        return " ".join(sorted(set(filter(None, found)))) if found and all(found) else None

    @property
    def watermark(self) -> Version | None:
        return _least([one.watermark for one in self._cells()])

    @property
    def latest(self) -> Version | None:
        return _least([one.latest for one in self._cells()])

    @property
    def why(self) -> str | None:
        cells = self._cells()
        if not cells:
            return "no consumer has told yet how many partitions there are"
        return next((why for one in cells if (why := one.why) is not None), None)

    def evidence(self) -> Evidence:
        return Evidence(self.watermark or 0, 0)

    async def keep_watermark(self, interval_ms: int, resources: Iterable[str]) -> NoReturn:
        """Tell the metrics again and again; each cell's own watermark is kept by itself."""
        gauges = [telemetry.BOUND_SECONDS.labels(resource) for resource in resources]

        async def tell() -> float:
            started = time.monotonic()
            self.lacks = frozenset().union(*(one.lacks for one in self._cells()))
            watermark = self.latest
            bound = self.marks.bound(watermark) if watermark is not None else None
            for gauge in gauges:
                gauge.set(bound if bound is not None else NOT_KNOWN)
            return max(IDLE * interval_ms / 1000 - (time.monotonic() - started), 0.005)

        await forever(tell)


def _least(found: Sequence[Version | None]) -> Version | None:
    known = [one for one in found if one is not None]
    return min(known) if known and len(known) == len(found) else None
