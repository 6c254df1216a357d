"""Filling the cache with what was read, and giving back leases that came to nothing."""

import contextlib
from collections.abc import Iterable, Sequence

from neverstale.errors import Outage
from neverstale.redis.cache import Cache, Fill

BODY_BYTES = 1 << 20
"""A larger document is never cached: it would hold up every other reply of this Redis."""
BYTES_A_CALL = 1 << 20


class Fills:
    """Offers values to the cache. An outage loses a fill, never an answer."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def offer(self, fills: Sequence[Fill]) -> None:
        """Offers all, a limited number of bytes at a time."""
        kept = [fill for fill in fills if _may_be_kept(fill)]
        spoilt = [fill.key for fill in fills if not _may_be_kept(fill)]
        for call in _portions(kept):
            try:
                results = await self._cache.fill(call)
            except Outage:
                spoilt += [fill.key for fill in call]
            else:
                # "version": a change was applied between our read and now. The lease is still ours and of no use.
                spoilt += [fill.key for fill, result in zip(call, results, strict=True) if result == "version"]
        await self.give_back(spoilt)

    async def give_back(self, keys: Sequence[bytes]) -> None:
        """Lets others lease these keys at once, not only when our leases run out. Best effort."""
        if keys:
            with contextlib.suppress(Outage):
                await self._cache.delete(keys)


def _may_be_kept(fill: Fill) -> bool:
    """It is not too large, and has not expired."""
    return fill.ttl_ms > 0 and len(fill.body or b"") <= BODY_BYTES


def _portions(fills: Iterable[Fill]) -> Iterable[list[Fill]]:
    portion: list[Fill] = []
    size = 0
    for fill in fills:
        length = len(fill.body or b"")
        if portion and size + length > BYTES_A_CALL:
            yield portion
            portion, size = [], 0
        portion.append(fill)
        size += length
    if portion:
        yield portion
