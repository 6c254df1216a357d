"""Inspection: whether all of a generation is still in Redis, also what no change touches.

A Redis that is out of memory may evict any key. Whoever changes or reads something that is gone finds that out, but
a reader only goes to MongoDB for it, and would do so for ever. So every consumer looks at some keys now and then.
"""

from collections.abc import Iterator
from typing import Final

from neverstale.derived.generations import Generation
from neverstale.derived.store import DerivedStore, hashes_of

KEYS_A_LOOK: Final = 500


class Inspection:
    """Of one resource, round after round."""

    def __init__(self, store: DerivedStore) -> None:
        self._store = store
        self._generation: str | None = None
        self._hashes: Iterator[list[bytes]] = iter(())
        self._rankings: Iterator[str] = iter(())
        self._ranking: str | None = None
        self._cursor = 0

    async def lost(self, generation: Generation) -> bytes | None:
        """Look at the next keys of the generation; one that is gone, if there is any among them."""
        if generation.id != self._generation:
            self._begin(generation)
        if (keys := next(self._hashes, None)) is not None:
            return await self._store.lost_hash(keys)
        if self._ranking is None and (next_ranking := next(self._rankings, None)) is not None:
            self._ranking, self._cursor = next_ranking, 0
        if self._ranking is None:
            self._generation = None
            return None
        self._cursor, lost = await self._store.lost_set(generation, self._ranking, self._cursor, KEYS_A_LOOK)
        if not self._cursor:
            self._ranking = None
        return lost

    def _begin(self, generation: Generation) -> None:
        hashes = hashes_of(self._store.names, generation)
        self._generation = generation.id
        self._hashes = (hashes[start : start + KEYS_A_LOOK] for start in range(0, len(hashes), KEYS_A_LOOK))
        self._rankings = iter([one.name for one in generation.shape.rankings])
        self._ranking = None
