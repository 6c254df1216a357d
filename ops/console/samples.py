"""What a process says of itself at `/metrics`."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Self
from urllib.parse import urlencode

_LINE: Final = re.compile(r"^((?:neverstale|process)_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = Mapping[str, str]

NAMES: Final = (
    *("process_resident_memory_bytes", "neverstale_l1_bytes", "neverstale_bound_seconds", "neverstale_audit_nines"),
    *("neverstale_breaker_open", "neverstale_watcher_leads", "neverstale_watcher_term"),
    *(
        f"neverstale_{counted}_total"
        for counted in (
            *("changes_read", "records_published", "records_applied", "invalidations", "reads", "loads", "l1_hits"),
            *("shed", "limited", "position_lost", "redis_lacked", "offsets_lost", "topic_made_anew", "redis_changed"),
            *("l1_voided", "audit_wrong", "rebalances", "records_poison", "generations_begun", "damaged"),
            *("tasks_died", "stream_opened", "consumer_recoveries", "kafka_refusals", "records_too_large"),
        )
    ),
    *(
        f"neverstale_{histogram}_seconds_{part}"
        for histogram in ("capture_lag", "applied_lag", "apply", "load")
        for part in ("sum", "count")
    ),
)
"""All that the console looks at."""
PATH: Final = f"/metrics?{urlencode([('name[]', name) for name in NAMES])}"
"""Asks a process for these only: to spell all that it counts costs more CPU than most of what it does at rest."""


class Samples:
    """The metrics of one process at one moment."""

    def __init__(self, values: Mapping[str, Sequence[tuple[Labels, float]]]) -> None:
        self._values = values

    @classmethod
    def read(cls, text: str) -> Self:
        """From the text format of Prometheus. What is no sample of ours is passed over.

        The client library's own parser takes seven times as long, and each process is read each second.
        """
        values: defaultdict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for name, labels, value in _LINE.findall(text):
            try:
                values[name].append((dict(_LABEL.findall(labels)), float(value)))
            except ValueError:
                continue
        return cls(values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def of(self, name: str, **wanted: str) -> Iterator[tuple[Labels, float]]:
        """The samples of a metric that have these labels. `LookupError`: it is none of `NAMES`, so nobody asks."""
        if name not in NAMES:
            raise LookupError(f"{name} is not asked for")
        for labels, value in self._values.get(name, ()):
            if all(labels.get(label) == text for label, text in wanted.items()):
                yield labels, value

    def total(self, name: str, **wanted: str) -> float:
        """Their sum; 0 if there are none."""
        return sum(value for _, value in self.of(name, **wanted))


def increase(before: Samples | None, after: Samples, name: str, **wanted: str) -> float:
    """What a counter of one process has grown by. A process that began again counts from 0."""
    was = before.total(name, **wanted) if before is not None else 0.0
    now = after.total(name, **wanted)
    return now - was if now >= was else now


def most(samples: Iterable[Samples], name: str) -> float | None:
    """The largest value of a gauge; `None`: nobody tells it. NaN, which stands for unknown, is the largest of all."""
    values = [value for one in samples for _, value in one.of(name)]
    unknown = next((value for value in values if value != value), None)
    return unknown if unknown is not None else max(values, default=None)
