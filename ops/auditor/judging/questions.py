"""Questions: what the auditor asks, spelled as readers spell it, so that the same caches answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from neverstale.api.derived.sources import FigureSources, Sources
from neverstale.api.endpoints.derived.counters import CounterEndpoint
from neverstale.api.endpoints.derived.rankings import RankingEndpoint
from neverstale.api.hits.request_lines import page_of
from neverstale.api.reads.source import Source
from neverstale.api.web.paths import PREFIX
from neverstale.api.web.problems import Problem
from neverstale.api.web.query import kind_of
from neverstale.api.web.typed_values import NULL, spell
from neverstale.catalog import Catalog, Resource
from neverstale.derived.groups import at_path
from neverstale.keys import KeyValue
from neverstale.ops.auditor.counts import About, Kind

Document: TypeAlias = Mapping[str, Any]

_NEVER_PLAIN: Final = ("cursor", "group", "limit", "around")
"""Fields of these names must be written with their type."""


@dataclass(frozen=True, slots=True)
class AuditQuestion:
    about: About
    source: Source
    key: Any
    """As the source has it."""
    path: str
    cached_only: bool = False
    """What the cache does not hold is not asked of MongoDB."""
    canonical: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "canonical", self.source.canonical(self.key))  # it is asked for often

    @property
    def name(self) -> tuple[str, str]:
        return self.source.name, self.canonical


class Subject:
    """One kind of what is read of one resource: all its documents, or one list, counter or ranking."""

    def __init__(self, about: About, source: Source, by: Sequence[str], spelled: Callable[[bytes], Any], path: str):
        self.about = about
        self.source = source
        self.by = tuple(by)
        self._spelled = spelled
        self._path = path

    def of(self, document: Document, resource: Resource) -> AuditQuestion | None:
        """The question about the group of a document; `None`: it has none that can be asked for by itself."""
        parts = []
        for path in self.by:
            part = _part(path, document, resource)
            if part is None:
                return None
            parts.append(part)
        query = "&".join(parts)
        try:
            key = self._spelled(query.encode())
        except Problem:
            return None
        return AuditQuestion(self.about, self.source, key, f"{self._path}?{query}" if query else self._path)


def _part(path: str, document: Document, resource: Resource) -> str | None:
    found = at_path(document, path)
    if len(found) > 1 or any(isinstance(one, list | dict) for one in found):
        return None
    kind, text = spell(found[0] if found else None)
    name = quote(path, safe="")
    if kind == NULL:
        return f"{name}:{NULL}"
    plain = kind == kind_of(path, resource) and path not in _NEVER_PLAIN
    return f"{name if plain else f'{name}:{kind}'}={quote(text, safe='')}"


def about_document(
    sources: Sources, resource: Resource, key: KeyValue, *, cached_only: bool = False
) -> AuditQuestion:
    path = f"{PREFIX}{resource.name}/{quote(str(key), safe='')}"
    return AuditQuestion((resource.name, "documents"), sources.documents[resource.name], key, path, cached_only)


def subjects_of(catalog: Catalog, sources: Sources) -> dict[str, list[Subject]]:
    """By resource: its lists, counters and rankings."""
    return {name: _derived(resource, sources) for name, resource in catalog.resources.items()}


def _derived(resource: Resource, sources: Sources) -> list[Subject]:
    name, figures = resource.name, FigureSources.of(resource)
    found = []
    for list_name in resource.lists:
        pages = sources.pages[name, list_name]
        found.append(_subject(resource, "pages", pages, pages.declared.by, _page(pages), f"lists/{list_name}"))
    for counts in figures.counters.values():
        key = CounterEndpoint(counts).key
        found.append(_subject(resource, "counters", counts, counts.declared.by, key, f"counters/{counts.counter}"))
    for ranks in figures.rankings.values():
        top = RankingEndpoint(ranks).key
        found.append(_subject(resource, "rankings", ranks, ranks.declared.by, top, f"rankings/{ranks.ranking}"))
    return found


def _page(pages: Any) -> Callable[[bytes], Any]:
    return lambda query: page_of(pages, query)


def _subject(
    resource: Resource, kind: Kind, source: Source, by: Sequence[str], key: Callable[[bytes], Any], path: str
) -> Subject:
    return Subject((resource.name, kind), source, by, key, f"{PREFIX}{resource.name}/-/{path}")


def fields_of(subjects: Sequence[Subject]) -> dict[str, int]:
    """The projection of what their groups are told by."""
    paths = {path for subject in subjects for path in subject.by}
    return {"_id": 1} | {path: 1 for path in sorted(paths) if not any(path.startswith(f"{one}.") for one in paths)}
