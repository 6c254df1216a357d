"""What a kind of derived data decides. Everybody else walks over what is declared and asks its kind."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from neverstale.catalog.declarations import Declaration
from neverstale.derived.facts import Fact, GroupFact, Pick, picking
from neverstale.derived.figures import FigureShape
from neverstale.derived.kinds.comparison import AnyComparison
from neverstale.derived.queries import Command, Values
from neverstale.derived.redis_names import DerivedNames
from neverstale.derived.tagged import Tagged
from neverstale.redis.commands import Commands

DeclarationT = TypeVar("DeclarationT", bound=Declaration)

Places: TypeAlias = Mapping[Fact, int]
"""Where each fact of a document stands."""


@dataclass(frozen=True, slots=True)
class IndexedQuery:
    """What MongoDB is asked for one group, and the index that it wants for that."""

    command: Command
    index: Mapping[str, int]
    """In which it is found, in its order."""
    equal: tuple[str, ...]
    """Paths that are compared with one value each."""
    is_needed: bool
    """Whether it is asked in the ordinary course of things, not only while Redis holds nothing."""
    unique: bool = False
    """No two documents may have the same values."""


class DerivedKind(ABC, Generic[DeclarationT]):
    """One kind. Its methods get what is declared, and its name."""

    def facts(self, name: str, declared: DeclarationT) -> Sequence[Fact]:
        """Which facts of a document it needs, besides those of the fields that make groups. Their order is a format:
        contributions are kept so."""
        return ()

    @abstractmethod
    def shape(
        self, name: str, declared: DeclarationT, places: Places, shown: tuple[str, ...] | None
    ) -> Tagged | FigureShape:
        """What a change adds and takes away, and where that lies in Redis. `shown`: the fields of documents that are
        read; `None`: all."""

    @abstractmethod
    def query(
        self, collection: str, declared: DeclarationT, values: Values, projection: Mapping[str, Any] | None
    ) -> IndexedQuery | None:
        """What MongoDB is asked for the group of these values; `None`: it reads everything anyway."""

    def comparison(
        self, name: str, declared: DeclarationT, redis: Commands, names: DerivedNames, generation: str
    ) -> AnyComparison | None:
        """What Redis holds beside what MongoDB says; `None`: Redis holds nothing but entries."""
        return None


def by_of(declared: Declaration, places: Places) -> Pick:
    """What takes the facts that make its groups."""
    return picking([places[GroupFact(path)] for path in declared.by])
