"""The metrics of several processes as one answer, in the text format of Prometheus.

Counters and histograms are added. Of gauges the largest counts, since each tells how bad something is, but for those
in `ADDED`, which are amounts. NaN stands for unknown, and what one process does not know nobody knows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

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


@dataclass(slots=True)
class Family:
    """A metric: its comments, and its samples by name and labels."""

    kind: str = "untyped"
    comments: list[str] = field(default_factory=list)
    samples: dict[str, float] = field(default_factory=dict)


Families: TypeAlias = dict[str, Family]


def read(text: str) -> Families:
    """What one process says."""
    families: Families = {}
    family = Family()
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, name, *rest = line.split(" ", 3)
            family = families.setdefault(name, Family())
            family.comments.append(line)
            if what == "TYPE":
                family.kind = rest[0]
        elif line:
            sample, _, value = line.rpartition(" ")
            family.samples[sample] = float(value)
    return families


def together(parts: Sequence[Families]) -> Families:
    """All of them as one."""
    found: Families = {}
    for part in parts:
        for name, family in part.items():
            whole = found.setdefault(name, Family(family.kind, family.comments))
            for sample, value in family.samples.items():
                held = whole.samples.get(sample)
                whole.samples[sample] = value if held is None else _joined(name, sample, family.kind, held, value)
    return found


def _joined(name: str, sample: str, kind: str, one: float, other: float) -> float:
    if sample.partition("{")[0].endswith("_created") or name in EARLIEST:
        return min(one, other)
    if kind != "gauge" or name in ADDED:
        return one + other
    return one if one != one else max(other, one) if other == other else other


def lasting(part: Families) -> Families:
    """What stays of a process that has ended: what it has counted, so that no sum ever falls."""
    return {name: family for name, family in part.items() if family.kind in ("counter", "histogram")}


def text(families: Families) -> bytes:
    """As Prometheus reads it."""
    return "".join(_lines(families)).encode()


def _lines(families: Families) -> Iterable[str]:
    for family in families.values():
        yield from (f"{comment}\n" for comment in family.comments)
        yield from (f"{sample} {_number(value)}\n" for sample, value in family.samples.items())


def _number(value: float) -> str:
    return "NaN" if value != value else f"{value!r}".replace("inf", "Inf")
