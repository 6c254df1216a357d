"""All experiments, in the order of their numbers."""

from typing import Final

from tests.faults import members, paused_fills
from tests.faults.experiment import Experiment

ALL: Final[tuple[Experiment, ...]] = tuple(
    sorted((*paused_fills.EXPERIMENTS, *members.EXPERIMENTS), key=lambda experiment: int(experiment.number))
)
