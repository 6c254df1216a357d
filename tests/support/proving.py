"""Proofs for tests that are about something else."""

from neverstale.api.freshness.bound import Bounds
from neverstale.api.freshness.proofs import Proofs
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.role.tasks import Tasks
from neverstale.versions import Version


def no_proofs() -> Proofs:
    """Without a clock nothing can be proved, and nobody waits for it."""

    async def now() -> Version:
        raise AssertionError("nobody should ask")

    clock = PrimaryClock()
    return Proofs(now, Bounds(clock), clock, Tasks())
