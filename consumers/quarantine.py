"""Quarantine: what cannot be applied is set aside, and what it may have changed is not trusted any more.

Before a batch with such records is applied, all that they may concern is added to what it invalidates. After that,
and before its offsets may be committed, the records themselves are put into the topic of dead letters.
"""

from collections.abc import Callable

from consumers.dead_letters import DeadLetters
from consumers.group.member import Apply
from consumers.records.batch import Batch, Folding
from consumers.records.horizon import Horizon
from consumers.records.terms import Terms


class Quarantine:
    """Around the applying of batches."""

    def __init__(
        self, folding: Folding, horizon: Horizon, apply: Apply, letters: DeadLetters, terms: Terms | None = None
    ) -> None:
        self._folding = folding
        self._horizon = horizon
        self._apply = apply
        self._letters = letters
        self._terms = terms

    async def apply(self, batch: Batch, wanted: Callable[[], bool]) -> bool:
        """As `consumers.apply.Applier.apply` does. The cache does not wait for a topic that takes no dead letters;
        what follows does."""
        if batch.doubtful and self._terms is not None:
            await self._terms.settle(batch)
        if not batch.poison:
            return await self._apply(batch, wanted)
        self._folding.settle(batch, await self._horizon.ask())
        return await self._apply(batch, wanted) and await self._letters.put(batch.poison, wanted)
