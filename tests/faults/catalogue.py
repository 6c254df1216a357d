"""All experiments, in the order of their numbers."""

from typing import Final

from tests.faults import (
    brokers,
    drains,
    elections,
    full_memory,
    killed_roles,
    leaks,
    members,
    namespaces,
    oplogs,
    paused_fills,
    poisoned,
    redises,
    shapes,
    topics,
    zombies,
)
from tests.faults.experiment import Experiment

MODULES: Final = (
    *(killed_roles, zombies, paused_fills, members, elections, oplogs, namespaces, shapes, brokers, topics, poisoned),
    *(redises, full_memory, drains, leaks),
)

ALL: Final[tuple[Experiment, ...]] = tuple(
    sorted(
        (experiment for module in MODULES for experiment in module.EXPERIMENTS),
        key=lambda experiment: int(experiment.number),
    )
)
