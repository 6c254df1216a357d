"""Look-ups: lists whose groups have one document each. Only what MongoDB is asked differs."""

from collections.abc import Mapping
from typing import Any, Final

from neverstale.catalog.declarations import ListDeclaration
from neverstale.catalog.lookups import list_name
from neverstale.derived.kinds.kind import IndexedQuery, Places
from neverstale.derived.kinds.lists import Lists
from neverstale.derived.lists import queries
from neverstale.derived.queries import Values
from neverstale.derived.tagged import Tagged


class Lookups(Lists):
    def shape(self, name: str, declared: ListDeclaration, places: Places, shown: tuple[str, ...] | None) -> Tagged:
        return super().shape(list_name(name), declared, places, shown)

    def query(
        self, collection: str, declared: ListDeclaration, values: Values, projection: Mapping[str, Any] | None
    ) -> IndexedQuery:
        (path,), (value,) = declared.by, values
        command = queries.lookup(collection, path, value, projection)
        return IndexedQuery(command, {path: 1}, (path,), is_needed=True, unique=True)


KIND: Final = Lookups()
