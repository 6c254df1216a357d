"""All experiments, in the order of their numbers."""

from typing import Final

from tests.faults import killed_roles, members, paused_fills
from tests.faults.experiment import Experiment

MODULES = (killed_roles, members, paused_fills)

ALL: Final[tuple[Experiment, ...]] = tuple(
    sorted(
        (experiment for module in MODULES for experiment in module.EXPERIMENTS),
        key=lambda experiment: int(experiment.number),
    )
)
