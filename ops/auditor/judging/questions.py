"""Questions: what the auditor asks, spelled as readers spell it, so that the same caches answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from neverstale.api.derived.figures import FigureSource
from neverstale.api.derived.sources import Sources
from neverstale.api.endpoints.derived.kinds import ENDPOINTS
from neverstale.api.reads.source import Source
from neverstale.api.web.paths import PREFIX
from neverstale.api.web.problems import Problem
from neverstale.api.web.query import kind_of
from neverstale.api.web.route_names import route_of
from neverstale.api.web.typed_values import NULL, spell
from neverstale.catalog import Catalog, Resource
from neverstale.derived.groups import at_path
from neverstale.keys import KeyValue
from neverstale.ops.auditor.counts import About, audited_as

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
    def is_figure(self) -> bool:
        """Whether Redis holds the answer itself, not as an entry that has a version."""
        return isinstance(self.source, FigureSource)

    @property
    def name(self) -> tuple[str, str]:
        return self.source.name, self.canonical


class Subject:
    """What is asked about one thing that is derived of a resource, group by group."""

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
    """By resource: all that is derived of it and can be asked for by group."""
    return {name: list(_derived(resource, sources)) for name, resource in catalog.resources.items()}


def _derived(resource: Resource, sources: Sources) -> Iterator[Subject]:
    for kind, endpoint in ENDPOINTS.items():
        for read in endpoint.group_reads(resource, sources):
            path = route_of(read.source.name)
            yield Subject((resource.name, audited_as(kind)), read.source, read.by, read.key, path)


def fields_of(subjects: Sequence[Subject]) -> dict[str, int]:
    """The projection of what their groups are told by."""
    paths = {path for subject in subjects for path in subject.by}
    return {"_id": 1} | {path: 1 for path in sorted(paths) if not any(path.startswith(f"{one}.") for one in paths)}
