"""What `benchmarks.latency` found, beside what is wanted: as lines and as JSON."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from neverstale.ops.demo.report import quantile

TARGETS_MS: Final = {200: (1.8, 5.0), 1000: (2.5, 10.0)}
"""Writes a second -> p50 and p99 from acknowledged to corrected."""
BOUNDS_MS: Final = 100.0
"""Median of the stated bound while there are 100 changes a second and more."""
IDLE_BOUND_MS: Final = 1100.0


@dataclass
class Rate:
    """What one rate has shown. All lists are milliseconds, ascending."""

    per_second: int
    corrected: list[float] = field(default_factory=list)
    """From acknowledged to corrected."""
    bare: list[float] = field(default_factory=list)
    """From acknowledged to told by the bare change stream; negative: it was told first."""
    beyond: list[float] = field(default_factory=list)
    """From told by the bare change stream to corrected, write by write: what is ours."""
    acknowledged: list[float] = field(default_factory=list)
    """From sent to acknowledged."""
    missing: int = 0
    """Writes whose correction was not seen."""
    bounds: list[float] = field(default_factory=list)
    """That answers stated meanwhile."""
    cores: dict[str, float] = field(default_factory=dict)
    """Process -> cores that it kept busy while the clock ran."""
    peer: list[float] = field(default_factory=list)
    """From acknowledged to corrected by the least that could do the work."""

    @property
    def good(self) -> bool:
        p50, p99 = quantile(self.corrected, 0.5), quantile(self.corrected, 0.99)
        wanted = TARGETS_MS.get(self.per_second)
        bound = quantile(self.bounds, 0.5)
        found = not self.missing and p50 is not None and p99 is not None and bound is not None and bound <= BOUNDS_MS
        return found and (wanted is None or (p50 <= wanted[0] and p99 <= wanted[1]))  # type: ignore[operator]


@dataclass(frozen=True, slots=True)
class Measured:
    broker: str
    rates: list[Rate]
    idle_bounds: list[float]
    """Milliseconds, ascending; that answers stated while nothing was written."""
    wrong: Mapping[int, str] = field(default_factory=dict)
    """Writes a second -> why there are no figures at this rate."""
    uncached: int = 0
    """Documents that were not cached in time: no correction of theirs can be seen."""

    @property
    def good(self) -> bool:
        idle = quantile(self.idle_bounds, 1.0)
        return not self.wrong and all(rate.good for rate in self.rates) and idle is not None and idle <= IDLE_BOUND_MS


def show(measured: Measured) -> str:
    titles = ("writes/s", "n", "corrected", "wanted", "bare pipeline", "bare stream", "acknowledged")
    lines = [f"p50 / p99 in ms after the acknowledgement, {measured.broker}, {os.cpu_count()} cores"]
    lines.append("{:>9}{:>8}{:>18}{:>15}{:>18}{:>18}{:>18}".format(*titles))
    for rate in measured.rates:
        wanted = TARGETS_MS.get(rate.per_second)
        cells = (
            rate.per_second,
            len(rate.corrected),
            _pair(rate.corrected),
            f"{wanted[0]:g} / {wanted[1]:g}" if wanted else "",
            _pair(rate.peer),
            _pair(rate.bare),
            _pair(rate.acknowledged),
        )
        lines.append("{:>9,}{:>8,}{:>18}{:>15}{:>18}{:>18}{:>18}".format(*cells))
    for rate in measured.rates:
        busy = ", ".join(f"{name} {cores:.2f}" for name, cores in rate.cores.items() if cores >= 0.005)
        lines.append(f"cores busy at {rate.per_second:,} writes/s: {busy}")
        lines.append(
            f"stated bound at {rate.per_second:,} writes/s: {_pair(rate.bounds)} (wanted: p50 {BOUNDS_MS:g})"
        )
        if rate.missing:
            lines.append(f"not seen at {rate.per_second:,} writes/s: {rate.missing:,} corrections")
    if measured.uncached:
        lines.append(f"not cached in time, so never seen: {measured.uncached:,} documents")
    lines += [f"failed at {rate:,} writes/s: {why}" for rate, why in measured.wrong.items()]
    lines.append(f"stated bound while nothing is written: {_pair(measured.idle_bounds)} (wanted: {IDLE_BOUND_MS:g})")
    return "\n".join(lines)


def _pair(values: Sequence[float]) -> str:
    p50, p99 = quantile(values, 0.5), quantile(values, 0.99)
    return "-" if p50 is None or p99 is None else f"{p50:.2f} / {p99:.2f}"


def as_json(measured: Measured) -> dict[str, Any]:
    return {"broker": measured.broker, "rates": list(map(_figures, measured.rates)), "good": measured.good} | {
        "idle_bound_ms": _shares(measured.idle_bounds),
        "wrong": dict(measured.wrong),
        "uncached": measured.uncached,
    }


def _figures(rate: Rate) -> Mapping[str, Any]:
    lists = {"corrected": rate.corrected, "bare": rate.bare, "beyond": rate.beyond, "acknowledged": rate.acknowledged}
    lists |= {"bound": rate.bounds, "peer": rate.peer}
    return {
        "writes_per_second": rate.per_second,
        "n": len(rate.corrected),
        "missing": rate.missing,
        "cores": {name: round(cores, 3) for name, cores in rate.cores.items()},
        "good": rate.good,
        **{f"{name}_ms": _shares(values) for name, values in lists.items()},
    }


def _shares(values: Sequence[float]) -> dict[str, float | None]:
    return {key: quantile(values, share) for key, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
