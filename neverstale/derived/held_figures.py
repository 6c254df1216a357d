"""Figures of one generation, such as its counters and rankings, read as one Redis holds them.

Missing is *unknown*, never zero (see `neverstale.derived.reading`). What the API answers with is a `Look`: behind the
figure, in the same round trip, it reads the epoch of the generations. If that is still the one that the caller knows,
the generation was kept up to date when the figure was read. What `rebuild --check` compares with MongoDB is read
without the epoch.
"""

from typing import Generic, NamedTuple, TypeVar

from neverstale.derived.redis_names import GUARDS, DerivedNames, epoch_command
from neverstale.redis.commands import Commands

FoundT = TypeVar("FoundT")


class Look(NamedTuple, Generic[FoundT]):
    """What a look has found."""

    found: FoundT | None
    """`None`: unknown, ask MongoDB."""
    epoch: bytes
    """Of the generations, read behind it."""


class Wholeness(NamedTuple):
    """What says whether a counter or a ranking may be believed."""

    is_there: bool
    beyond: int | None
    """Documents that could not be counted because they are beyond a bound; `None`: there are none."""


class HeldFigures:
    """Raises `Outage("redis")` for everything that is not an answer."""

    def __init__(self, redis: Commands, names: DerivedNames, generation: str) -> None:
        self._redis = redis
        self._names = names.of(generation)
        self._epoch = epoch_command(names.generations)

    async def wholeness(self, key: bytes) -> Wholeness:
        """Of the figure whose hash this is."""
        ((present, beyond),) = await self._redis.send((b"HMGET", key, *GUARDS))
        return Wholeness(present is not None, int(beyond) if beyond is not None else None)
