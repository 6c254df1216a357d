"""How often documents are read, as Redis keeps it for all processes together: the most read of each resource.

A read counts half after a half-life, a quarter after two. Of each resource at most `MOST` documents are kept: those
with the fewest reads make room, and begin anew when they are read again. So counts are exact for what is read often,
and a document that is read less than the last of the most read may be missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from neverstale.cache import Cache

MOST: Final = 10_000
"""Documents kept of a resource: about 1 MB."""
DOCUMENTS_A_CALL: Final = 200
"""More would hold up this Redis, and the process, for milliseconds."""


@dataclass(frozen=True, slots=True)
class ReadCount:
    key: str
    """Canonical, see `neverstale.keys`."""
    reads: float
    """Decayed to now."""
    rank: int
    """The most read has 1."""


class Popularity:
    """The reads of every resource. Raises `Outage("redis")`."""

    def __init__(self, cache: Cache, half_life_seconds: float, most: int = MOST) -> None:
        self._cache = cache
        self._half_life_ms = round(half_life_seconds * 1000)
        self._most = most

    async def add(self, resource: str, reads: Mapping[str, int]) -> None:
        """Canonical key -> reads that were not added before, of at most `DOCUMENTS_A_CALL` documents. An outage may
        have added them."""
        pairs: list[Any] = [item for key, count in reads.items() for item in (key.encode(), count)]
        await self._cache.send(await self._call(resource, pairs))

    async def most(self, resource: str, limit: int) -> list[ReadCount]:
        """The most read, at most so many."""
        weight, found = await self._cache.send(
            await self._call(resource, ()), ("ZREVRANGE", self._names(resource)[0], 0, limit - 1, "WITHSCORES")
        )
        return [
            ReadCount(member.decode(), score / float(weight), rank)
            for rank, (member, score) in enumerate(_pairs(found), 1)
        ]

    async def of(self, resource: str, key: str) -> ReadCount | None:
        """One document; `None`: it is not among those that are kept."""
        reads, member = self._names(resource)[0], key.encode()
        weight, score, rank = await self._cache.send(
            await self._call(resource, ()), ("ZSCORE", reads, member), ("ZREVRANK", reads, member)
        )
        return ReadCount(key, float(score) / float(weight), rank + 1) if score is not None else None

    async def _call(self, resource: str, pairs: Sequence[Any]) -> tuple[Any, ...]:
        return await self._cache.call("read", self._names(resource), (self._half_life_ms, self._most, *pairs))

    def _names(self, resource: str) -> tuple[bytes, bytes]:
        base = f"{self._cache.names.prefix}:{{{resource}}}:reads"
        return base.encode(), f"{base}:since".encode()


def _pairs(found: Sequence[Any]) -> Iterator[tuple[bytes, float]]:
    """Members and scores, as either version of the Redis protocol answers them."""
    if found and isinstance(found[0], (list, tuple)):
        yield from ((member, float(score)) for member, score in found)
    else:
        yield from ((member, float(score)) for member, score in zip(found[::2], found[1::2], strict=True))
