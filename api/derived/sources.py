"""What can be read of a catalog beside documents: the lists, counters and rankings of each resource."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from api.derived.counters import CounterSource
from api.derived.generations import Known
from api.derived.pages import PageShelf, PageSource
from api.derived.rankings import RankingSource
from api.reads.source import AnySource, DocumentShelf, Shelf
from neverstale.catalog import Catalog, Resource
from neverstale.derived.store import DerivedStore
from neverstale.redis.cache import Cache


@dataclass(frozen=True, slots=True)
class Derived:
    """All sources of one resource that are derived from its documents."""

    resource: Resource
    lists: Mapping[str, PageSource]
    counters: Mapping[str, CounterSource]
    rankings: Mapping[str, RankingSource]

    @classmethod
    def of(cls, resource: Resource, secret: bytes) -> "Derived":
        return cls(
            resource,
            {name: PageSource(resource, name, one, secret) for name, one in resource.lists.items()},
            {name: CounterSource(resource, name, one) for name, one in resource.counters.items()},
            {name: RankingSource(resource, name, one) for name, one in resource.rankings.items()},
        )


def derived_of(catalog: Catalog, secret: bytes = b"") -> dict[str, Derived]:
    """By resource, of those that declare something. `secret`: signs cursors."""
    return {name: Derived.of(one, secret) for name, one in catalog.resources.items() if one.derived}


def known_of(derived: Iterable[Derived], cache: Cache, identity: Callable[[], str | None]) -> dict[str, Known]:
    """By resource."""
    return {one.resource.name: Known(DerivedStore(cache, one.resource.name), identity) for one in derived}


def shelves(
    catalog: Catalog, derived: Iterable[Derived], known: Mapping[str, Known], cache: Cache
) -> Iterator[tuple[AnySource, Shelf]]:
    """Everything that has entries, and where they lie."""
    for resource in catalog.resources.values():
        yield resource, DocumentShelf(cache, resource.name, resource.collection)
    for one in derived:
        yield from page_shelves(one, known[one.resource.name], cache)


def page_shelves(derived: Derived, known: Known, cache: Cache) -> Iterator[tuple[PageSource, PageShelf]]:
    """The lists of one resource, and where their pages lie."""
    for pages in derived.lists.values():
        yield pages, PageShelf(cache, pages, known)
