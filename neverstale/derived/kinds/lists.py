"""Lists: pages of documents. MongoDB is asked for them, tags vouch for what is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from neverstale.bson.texts import text_of
from neverstale.catalog.declarations import ListDeclaration
from neverstale.derived import groups
from neverstale.derived.facts import Documents, Fact, GroupFact, picking
from neverstale.derived.groups import fact_at
from neverstale.derived.kinds.kind import DerivedKind, IndexedQuery, Places, by_of
from neverstale.derived.lists import queries
from neverstale.derived.queries import Values
from neverstale.derived.tagged import Tagged


@dataclass(frozen=True, slots=True)
class ConstantsFact(Fact):
    """`1` if a document holds a list's constants, else empty."""

    unknown: ClassVar[str] = "1"
    list_name: str
    """Each list with constants has a fact of its own, whatever those are."""
    constants: tuple[tuple[str, str], ...]
    """Path, text."""

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path, _ in self.constants)

    def tell(self, documents: Documents) -> list[str]:
        return ["1" if self._holds(one) else "" for one in documents]

    def _holds(self, document: Mapping[str, Any]) -> bool:
        for path, text in self.constants:
            found = fact_at(document, path)
            # Beyond the bound we cannot tell; a document too many in a list only costs an invalidation.
            if found != text and found != groups.BEYOND and text not in (groups.texts_of(found) or ()):
                return False
        return True


class Lists(DerivedKind[ListDeclaration]):
    def facts(self, name: str, declared: ListDeclaration) -> Sequence[Fact]:
        return (_constants(name, declared),) if declared.where else ()

    def shape(self, name: str, declared: ListDeclaration, places: Places, shown: tuple[str, ...] | None) -> Tagged:
        member = places[_constants(name, declared)] if declared.where else None
        seen = [*(places[GroupFact(path)] for path in declared.by), *(() if member is None else (member,))]
        ordered = (path for path, _ in declared.order)
        used = None if shown is None else frozenset((*declared.by, *declared.where, *ordered, *shown))
        by, constants = by_of(declared, places), tuple(declared.where)
        return Tagged(name, by, declared.by, member, used, constants, picking(seen))

    def query(
        self, collection: str, declared: ListDeclaration, values: Values, projection: Mapping[str, Any] | None
    ) -> IndexedQuery:
        page = queries.list_page(collection, declared, values, projection=projection)
        equal = (*declared.by, *declared.where)
        return IndexedQuery(page, queries.list_index(declared), equal, is_needed=True)


def _constants(name: str, declared: ListDeclaration) -> ConstantsFact:
    return ConstantsFact(name, tuple((path, text_of(value)) for path, value in declared.where.items()))


KIND: Final = Lists()
