"""The metrics of several processes as one answer.

Counters and histograms are added. Of gauges the largest counts, since each tells how bad something is, but for those
in `ADDED`, which are amounts. NaN stands for unknown, and what one process does not know nobody knows.

Between processes go the families of Prometheus's client, as a registry collects them: nothing is spelled as text, or
read from it, before Prometheus itself asks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

ADDED: Final = frozenset(
    (
        "neverstale_l1_bytes",
        "neverstale_unread_bytes",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    )
)
"""Gauges of which each process has its own share."""
EARLIEST: Final = frozenset(("process_start_time_seconds",))

Families: TypeAlias = Sequence[Metric]
"""What one process says."""
Series: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels."""


@dataclass(frozen=True, slots=True)
class _Said(Collector):
    families: Families

    def collect(self) -> Iterator[Metric]:
        return iter(self.families)


def together(parts: Sequence[Families]) -> Families:
    """All of them as one."""
    families: dict[str, Metric] = {}
    values: dict[str, dict[Series, float]] = {}
    for part in parts:
        for family in part:
            families.setdefault(family.name, family)
            whole = values.setdefault(family.name, {})
            for sample in family.samples:
                series = sample.name, tuple(sample.labels.items())
                held = whole.get(series)
                whole[series] = sample.value if held is None else _joined(family, sample, held)
    return [_with(family, values[name]) for name, family in families.items()]


def _with(family: Metric, values: dict[Series, float]) -> Metric:
    found = Metric(family.name, family.documentation, family.type, family.unit)
    found.samples = [Sample(name, dict(labels), value) for (name, labels), value in values.items()]
    return found


def _joined(family: Metric, sample: Sample, held: float) -> float:
    if sample.name.endswith("_created") or family.name in EARLIEST:
        return min(held, sample.value)
    if family.type != "gauge" or family.name in ADDED:
        return held + sample.value
    return held if held != held or held > sample.value else sample.value


def lasting(part: Families) -> Families:
    """What stays of a process that has ended: what it has counted, so that no sum ever falls."""
    return [family for family in part if family.type in ("counter", "histogram")]


def text(families: Families) -> bytes:
    """As Prometheus reads it."""
    return generate_latest(_Said(families))
