"""All experiments, in the order of their numbers."""

from math import inf
from typing import Final

from tests.faults import (
    brokers,
    cancels,
    drains,
    elections,
    frozen,
    full_memory,
    ghosts,
    hostile,
    killed_roles,
    leaks,
    members,
    namespaces,
    odd_documents,
    oplogs,
    paused_fills,
    poisoned,
    redises,
    refusals,
    sessions,
    shapes,
    stampedes,
    storms,
    topics,
    zombies,
)
from tests.faults.experiment import Experiment

MODULES: Final = (
    *(killed_roles, zombies, paused_fills, members, elections, oplogs, namespaces, shapes, brokers, topics, poisoned),
    *(redises, full_memory, drains, leaks, storms, ghosts, stampedes, cancels, hostile, sessions, odd_documents),
    *(frozen, refusals),
)


def _place(number: str) -> tuple[float, str]:
    """1, 3, 3b, 26, D."""
    digits = "".join(filter(str.isdigit, number))
    return (int(digits) if digits else inf, number)


ALL: Final[tuple[Experiment, ...]] = tuple(
    sorted(
        (experiment for module in MODULES for experiment in module.EXPERIMENTS),
        key=lambda experiment: _place(experiment.number),
    )
)
