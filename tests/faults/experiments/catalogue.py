"""All experiments, in the order of their numbers."""

from math import inf
from typing import Final

from tests.faults.experiments import d_storms as storms
from tests.faults.experiments import e01_e02_killed_roles as killed_roles
from tests.faults.experiments import e03_zombies as zombies
from tests.faults.experiments import e03b_ghosts as ghosts
from tests.faults.experiments import e04_e05_paused_fills as paused_fills
from tests.faults.experiments import e06_e07_members as members
from tests.faults.experiments import e08_elections as elections
from tests.faults.experiments import e09_e10_oplogs as oplogs
from tests.faults.experiments import e11_namespaces as namespaces
from tests.faults.experiments import e12_shapes as shapes
from tests.faults.experiments import e13_to_e15_brokers as brokers
from tests.faults.experiments import e16_topics as topics
from tests.faults.experiments import e17_poisoned as poisoned
from tests.faults.experiments import e18_e23_stampedes as stampedes
from tests.faults.experiments import e19_e21_redises as redises
from tests.faults.experiments import e20_full_memory as full_memory
from tests.faults.experiments import e22_cancels as cancels
from tests.faults.experiments import e24_hostile as hostile
from tests.faults.experiments import e25_drains as drains
from tests.faults.experiments import e26_odd_documents as odd_documents
from tests.faults.experiments import e27_refusals as refusals
from tests.faults.experiments import e34_frozen as frozen
from tests.faults.experiments import e35_leaks as leaks
from tests.faults.experiments import e36_sessions as sessions
from tests.faults.rig.experiment import Experiment

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
