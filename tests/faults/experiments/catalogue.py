"""All experiments, in the order of their numbers. A file is named after those in it: `e13_14_15_brokers`."""

import re
from collections.abc import Iterator
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Final

from tests.faults.rig.experiment import Experiment

NAMES: Final = sorted(path.stem for path in Path(__file__).parent.glob("e[0-9]*_*.py"))
_NUMBER: Final = re.compile(r"0*(\d+[a-z]?)")


def numbers(name: str) -> list[str]:
    """What a file's name says of its experiments: 3b; 13, 14 and 15."""
    found = takewhile(bool, map(_NUMBER.fullmatch, name.removeprefix("e").split("_")))
    return [number[1] for number in found if number]


def within(name: str) -> tuple[Experiment, ...]:
    """The experiments of a file."""
    experiments: tuple[Experiment, ...] = import_module(f"{__package__}.{name}").EXPERIMENTS
    return experiments


def _all() -> Iterator[Experiment]:
    for name in NAMES:
        yield from within(name)


def _place(experiment: Experiment) -> tuple[int, str]:
    """1, 3, 3b, 26."""
    return int(experiment.number.rstrip("abc")), experiment.number


ALL: Final[tuple[Experiment, ...]] = tuple(sorted(_all(), key=_place))
