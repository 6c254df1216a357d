"""Eviction: whether all of a generation is still in Redis and ours, also what no change touches.

A Redis that is out of memory may evict any key, and a neighbour may write into one. Whoever changes or reads what is
gone, or is no number, finds that out, but a reader only goes to MongoDB for it, and would do so for ever. So every
consumer looks at some keys now and then.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from neverstale.derived.generations import Generation
from neverstale.derived.store import DerivedStore, hashes_of, valued_hashes_of
from neverstale.versions import Version

KEYS_A_LOOK: Final = 500


class Inspection:
    """Looks at the keys of one resource, round after round."""

    def __init__(self, store: DerivedStore, now: Callable[[], Awaitable[Version]]) -> None:
        self._store = store
        self._now = now
        self._generation: str | None = None
        self._looks: AsyncIterator[bytes | None] | None = None

    async def lost(self, generation: Generation) -> bytes | None:
        """Look at the next keys of the generation; one that is gone or not ours, if there is any among them."""
        if self._looks is None or generation.id != self._generation:
            self._generation, self._looks = generation.id, self._round(generation)
        try:
            return await anext(self._looks)
        except StopAsyncIteration:
            self._looks = None
            return None
        except BaseException:
            self._looks = None  # what failed once is over; the next look begins a round
            raise

    async def _round(self, generation: Generation) -> AsyncIterator[bytes | None]:
        """One look at a time."""
        store = self._store
        hashes = hashes_of(store.names, generation)
        for start in range(0, len(hashes), KEYS_A_LOOK):
            yield await store.lost_hash(hashes[start : start + KEYS_A_LOOK])
        for kept in generation.shape.all:
            if not kept.has_sets:
                continue
            cursor, lost = await store.lost_set(generation, kept, 0, KEYS_A_LOOK)
            yield lost
            while cursor:
                cursor, lost = await store.lost_set(generation, kept, cursor, KEYS_A_LOOK)
                yield lost
        for valued in valued_hashes_of(store.names, generation):
            cursor, lost = await store.false_field(valued, 0, KEYS_A_LOOK, self._now)
            yield lost
            while cursor:
                cursor, lost = await store.false_field(valued, cursor, KEYS_A_LOOK, self._now)
                yield lost
