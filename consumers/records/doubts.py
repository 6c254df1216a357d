"""Doubts: what a batch speaks of although nobody can read it, and which of its marks count.

Settled before the batch is applied, so that all that unreadable records may concern is among what it invalidates.
"""

from dataclasses import dataclass

from neverstale.consumers.records.batch import Batch, Folding
from neverstale.consumers.records.horizon import Horizon
from neverstale.consumers.records.terms import Terms


@dataclass(frozen=True, slots=True)
class Doubts:
    """Settles batches. Asks MongoDB, and waits for it no longer than one question takes."""

    folding: Folding
    horizon: Horizon
    terms: Terms

    async def settle(self, batch: Batch) -> None:
        if batch.doubtful:
            await self.terms.settle(batch)
        if batch.poison:
            self.folding.settle(batch, await self.horizon.ask())
