"""All that can be read of a catalog: documents, pages and look-ups, which the cache holds; counters and rankings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from neverstale.api.derived.counters import CounterSource
from neverstale.api.derived.generations import Known
from neverstale.api.derived.lookups import LookupSource
from neverstale.api.derived.pages import PageSource
from neverstale.api.derived.rankings import RankingSource
from neverstale.api.reads.read_counts import ReadCounts
from neverstale.api.reads.source import CachedSource, DocumentSource
from neverstale.api.web.paths import PREFIX
from neverstale.catalog import Catalog, Resource
from neverstale.derived.store import DerivedStore
from neverstale.redis.cache import Cache


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything of a catalog that the cache holds as entries."""

    documents: Mapping[str, DocumentSource]
    """By resource."""
    pages: Mapping[tuple[str, str], PageSource]
    """By resource and list."""
    lookups: Mapping[tuple[str, str], LookupSource] = field(default_factory=dict)
    """By resource and field."""

    @classmethod
    def of(
        cls, catalog: Catalog, cache: Cache, known: Mapping[str, Known], read_counts: ReadCounts, secret: bytes = b""
    ) -> Self:
        """`cache`: where entries are read. `secret`: signs cursors."""
        resources = catalog.resources
        return cls(
            {
                name: DocumentSource(resource, cache, read_counts, f"{PREFIX}{name}/")
                for name, resource in resources.items()
            },
            {
                (name, list_name): PageSource(resource, list_name, cache, known[name], secret)
                for name, resource in resources.items()
                for list_name in resource.lists
            },
            {
                (name, path): LookupSource(resource, path, cache, known[name])
                for name, resource in resources.items()
                for path in resource.lookups
            },
        )

    def __iter__(self) -> Iterator[CachedSource]:
        yield from self.documents.values()
        yield from self.pages.values()
        yield from self.lookups.values()


@dataclass(frozen=True, slots=True)
class FigureSources:
    """The counters and rankings of one resource, by name."""

    counters: Mapping[str, CounterSource]
    rankings: Mapping[str, RankingSource]

    @classmethod
    def of(cls, resource: Resource) -> Self:
        return cls(
            {name: CounterSource(resource, name, one) for name, one in resource.counters.items()},
            {name: RankingSource(resource, name, one) for name, one in resource.rankings.items()},
        )


def known_of(catalog: Catalog, cache: Cache, identity: Callable[[], str | None]) -> dict[str, Known]:
    """The generations of derived data, by resource, of those that declare some."""
    return {
        name: Known(DerivedStore(cache, resource.derived_name), identity, name)
        for name, resource in catalog.resources.items()
        if resource.derived
    }
