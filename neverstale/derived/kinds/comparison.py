"""Comparisons: what Redis holds of one figure, and what MongoDB says of the same groups, in terms that can be
compared. `neverstale rebuild --check` asks for both."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

from neverstale.derived.held_figures import HeldFigures
from neverstale.derived.queries import Command, Filter

A_BATCH: Final = 1_000
"""Documents or rows. In between others have their turn: a driver that cannot watch its server gives it up."""
MOST_GROUPS: Final = 100
"""That are asked for one by one; more are found by reading everything."""

ValueT = TypeVar("ValueT")


class Comparison(ABC, Generic[ValueT]):
    """Of one figure of a generation. `str` of a value shows it to people."""

    nothing: ValueT
    """What is said of a group without documents."""

    def __init__(self, by: tuple[str, ...], hash_key: bytes, held: HeldFigures) -> None:
        """`by`: the fields that make its groups. `hash_key`: its hash."""
        self.by = by
        self._hash_key = hash_key
        self._held = held

    async def unknown(self) -> str | None:
        """Why nobody is told from Redis, if so. Raises `Outage`."""
        whole = await self._held.wholeness(self._hash_key)
        if not whole.is_there:
            return LOST
        return None if whole.beyond is None else f"{whole.beyond} documents are beyond its bounds"

    @abstractmethod
    async def in_redis(self, only: Collection[str]) -> Mapping[str, ValueT]:
        """Every group that is not empty; given `only`, at least those. Raises `Outage`."""

    @abstractmethod
    def command(self, collection: str, matching: Filter) -> Command:
        """What MongoDB is asked for the groups of documents that match."""

    @abstractmethod
    async def in_mongodb(self, rows: AsyncIterator[dict[str, Any]]) -> Mapping[str, ValueT]:
        """Every group that is not empty, from the rows that it returns."""

    def alike(self, one: ValueT, other: ValueT) -> bool:
        return one == other


AnyComparison: TypeAlias = Comparison[Any]
LOST: Final = "lost"
"""Why Redis does not tell: the hash is gone."""
