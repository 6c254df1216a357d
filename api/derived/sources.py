"""All of a catalog that the cache holds as entries: documents, and what is read for groups of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Self, TypeVar

from neverstale.api.derived.generations import Known
from neverstale.api.derived.grouped import GroupedSource
from neverstale.api.derived.lookups import lookup_sources
from neverstale.api.derived.pages import page_sources
from neverstale.api.reads.read_counts import ReadCounts
from neverstale.api.reads.source import CachedSource, DocumentSource
from neverstale.api.web.paths import PREFIX
from neverstale.catalog import Catalog, Resource
from neverstale.derived.store import DerivedStore
from neverstale.redis.cache import Cache

_KINDS: Final = (page_sources, lookup_sources)
"""Of every kind that the cache holds as entries, what makes its sources."""

SourceT = TypeVar("SourceT", bound=GroupedSource)


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything of a catalog that the cache holds as entries."""

    documents: Mapping[str, DocumentSource]
    """By resource."""
    grouped: Mapping[str, GroupedSource] = field(default_factory=dict)
    """By name: `flights.lists.departures`."""

    @classmethod
    def of(
        cls, catalog: Catalog, cache: Cache, known: Mapping[str, Known], read_counts: ReadCounts, secret: bytes = b""
    ) -> Self:
        """`cache`: where entries are read. `secret`: signs cursors."""
        resources = catalog.resources
        documents = {
            name: DocumentSource(one, cache, read_counts, f"{PREFIX}{name}/") for name, one in resources.items()
        }
        derived = [one for one in resources.values() if one.derived]
        return cls(documents, by_name(grouped_of(one, cache, known[one.name], secret) for one in derived))

    def every(self, kind: type[SourceT]) -> list[SourceT]:
        """All of one kind of what is grouped."""
        return [one for one in self.grouped.values() if isinstance(one, kind)]

    def named(self, kind: type[SourceT], name: str) -> SourceT:
        """`name`: `flights.lists.departures`."""
        found = self.grouped[name]
        assert isinstance(found, kind)
        return found

    def __iter__(self) -> Iterator[CachedSource]:
        yield from self.documents.values()
        yield from self.grouped.values()


def grouped_of(resource: Resource, cache: Cache, known: Known, secret: bytes) -> list[GroupedSource]:
    """Of one resource, all that is grouped."""
    return [source for of_kind in _KINDS for source in of_kind(resource, cache, known, secret)]


def by_name(parts: Iterable[Iterable[GroupedSource]]) -> dict[str, GroupedSource]:
    return {one.name: one for part in parts for one in part}


def known_of(catalog: Catalog, cache: Cache, identity: Callable[[], str | None]) -> dict[str, Known]:
    """The generations of derived data, by resource, of those that declare some."""
    return {
        name: Known(DerivedStore(cache, resource.derived_name), identity, name)
        for name, resource in catalog.resources.items()
        if resource.derived
    }
