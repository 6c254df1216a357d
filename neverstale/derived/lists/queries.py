"""Queries: what MongoDB is asked for pages of lists, and for what is looked up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from neverstale.bson.values import under
from neverstale.catalog.declarations import ListDeclaration
from neverstale.derived.lists.positions import after
from neverstale.derived.queries import BYTES, Command, Filter, Values, equal, is_value

SORT_KEY: Final = "__neverstale_sort_key"
"""Field that a page's documents carry besides their own: the values that they are sorted by."""


def list_filter(declared: ListDeclaration, values: Values) -> Filter:
    """The documents of one group of a list."""
    return {**equal(declared.by, values), **{path: is_value(constant) for path, constant in declared.where.items()}}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which documents of a group a page shows, in the order of the list."""

    position: Values | None = None
    """The sort key of the document that it begins behind; `None`: it begins with the first."""
    back: bool = False
    """It ends before the position instead, and is read backwards: nearest first."""
    inclusive: bool = False
    """What has this very position belongs to it, too."""
    limit: int | None = None
    """Documents; `None`: `page_size`."""
    span: Mapping[str, Any] = field(default_factory=dict)
    """Of the first sorted field: `gte`, `gt`, `lte`, `lt` -> value. Only values of its type are found."""


WHOLE: Final = Stretch()


def list_page(
    collection: str,
    declared: ListDeclaration,
    values: Values,
    stretch: Stretch = WHOLE,
    projection: Mapping[str, Any] | None = None,
) -> Command:
    """`find` for a page and one document more.

    Behind a position the filter is an `$or` whose branches each carry the group: each is one scan of the list's index
    in its order (or against it), which the server merges.
    """
    found = list_filter(declared, values)
    order = [(path, -way) for path, way in declared.order] if stretch.back else declared.order
    if stretch.span:
        first = declared.order[0][0]
        found = {"$and": [*_each(found), *({first: under(f"${by}", value)} for by, value in stretch.span.items())]}
    if stretch.position is not None:
        behind = after(order, stretch.position, inclusive=stretch.inclusive)
        found = {"$or": [{"$and": [*_each(found), *branch]} for branch in behind]}
    limit = stretch.limit or declared.page_size
    return {
        "find": collection,
        "filter": found,
        "sort": dict(order),
        "projection": {**(projection or {}), SORT_KEY: {"$meta": "sortKey"}},
        "limit": limit + 1,
        "batchSize": limit + 2,  # so that the server closes the cursor by itself
        "collation": BYTES,
    }


def _each(found: Filter) -> list[Filter]:
    return [{path: condition} for path, condition in found.items()]


def list_index(declared: ListDeclaration) -> dict[str, int]:
    """The index in whose order a page is read: without it, every page sorts the whole group."""
    return dict.fromkeys((*declared.by, *declared.where), 1) | {
        path: way for path, way in declared.order if path not in declared.by and path not in declared.where
    }


def lookup(collection: str, path: str, value: Any, projection: Mapping[str, Any] | None = None) -> Command:
    """`find` for the document that has a value, and for another one if there is: then the value is not unique."""
    command: Command = {
        "find": collection,
        "filter": {path: is_value(value)},
        "limit": 2,
        "batchSize": 3,  # so that the server closes the cursor by itself
        "collation": BYTES,
    }
    return command if projection is None else command | {"projection": dict(projection)}
