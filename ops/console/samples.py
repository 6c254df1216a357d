"""What a process says of itself at `/metrics`."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Self

_LINE: Final = re.compile(r"^((?:neverstale|process)_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = Mapping[str, str]


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
        """The samples of a metric that have these labels."""
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
