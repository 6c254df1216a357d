"""Subjects: what can be watched, how it is read, and what announcements call it."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from neverstale.api.derived.figures import FigureSource
from neverstale.api.derived.lookups import LookupKey, LookupSource
from neverstale.api.derived.pages import PageKey, PageSource
from neverstale.api.linked.linker import Linker, Part
from neverstale.api.linked.many import Each, Many
from neverstale.api.linked.parameters import EXPAND
from neverstale.api.linked.reading import reading
from neverstale.api.linked.view import Selection, View
from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.reads.source import DocumentSource
from neverstale.api.state import State
from neverstale.errors import Refused
from neverstale.keys import KeyValue
from neverstale.redis.announcements import group_name

DOCUMENTS: Final = "documents"
"""Changes of documents are told since ever: there is no generation that begins."""


class SubjectAnswer(NamedTuple):
    """A state, and what announcements call all that it shows."""

    answer: Answer
    names: frozenset[bytes]


class LiveSubject(Protocol):
    """Something that can be watched."""

    @property
    def name(self) -> str:
        """Its source, in metrics."""

    @property
    def identity(self) -> Hashable:
        """Equal subjects are read once for all who watch them."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The watcher groups of all that it may show."""

    @property
    def names(self) -> frozenset[bytes]:
        """What announcements call it, as far as that is known before it was read."""

    @property
    def absence(self) -> bytes:
        """The body of the 404 that says that it is not there."""

    def told(self) -> Hashable | None:
        """By what its changes are told; `None`: nothing tells of them now. Two reads between which this is the same
        are joined by announcements."""

    async def get(self, wish: Wish) -> SubjectAnswer:
        """Reads it as a `GET` does; raises alike."""

    def count_read(self) -> None:
        """Notes that somebody was given it."""


@dataclass(frozen=True, slots=True)
class DocumentSubject:
    """One document, in a view."""

    state: State
    source: DocumentSource
    key: KeyValue
    view: View
    absence: bytes
    names: frozenset[bytes] = field(init=False)
    groups: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", _groups(self.state, self.view))
        object.__setattr__(self, "names", frozenset((self.source.watched_as(self.key),)))

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def identity(self) -> Hashable:
        return self.source.name, self.source.canonical(self.key), _name_of(self.view)

    def told(self) -> Hashable | None:
        return DOCUMENTS if _all_told(self.state, self.view) else None

    async def get(self, wish: Wish) -> SubjectAnswer:
        if self.view.is_whole:
            return SubjectAnswer(await self.state.reader.get(self.source, self.key, wish), self.names)
        found: list[Linker] = []

        async def read(linker: Linker, many: Many) -> Each:
            found[:] = [linker]
            return (await linker.documents(self.view, await many.read(self.source, [self.key])))[self.key]

        with self.state.unread.hold(None) as holding:
            each = await reading(self.state, wish, holding, EXPAND, read)
        if isinstance(each, Refused):
            raise each
        return SubjectAnswer(each, self.names | _entries(self.state, found[0].parts))

    def count_read(self) -> None:
        self.source.count_read(self.source.locate(self.key)[0])


@dataclass(frozen=True, slots=True)
class PageSubject:
    """One page of a list, in a view."""

    state: State
    pages: PageSource
    key: PageKey
    view: View
    absence: bytes = b""
    names: frozenset[bytes] = field(init=False)
    groups: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", _groups(self.state, self.view))
        place = self.pages.locate(self.key)[1]
        object.__setattr__(self, "names", frozenset((place.group,) if place is not None else ()))

    @property
    def name(self) -> str:
        return self.pages.name

    @property
    def identity(self) -> Hashable:
        return self.pages.name, self.key.canonical, _name_of(self.view)

    def told(self) -> Hashable | None:
        generation = self.pages.generation
        return generation.id if generation is not None and _all_told(self.state, self.view) else None

    async def get(self, wish: Wish) -> SubjectAnswer:
        reader = self.state.reader
        get = reader.get if self.pages.is_cached(self.key) else reader.get_around
        if self.view.is_whole:
            return SubjectAnswer(await get(self.pages, self.key, wish), self.names)
        found: list[Linker] = []

        async def read(linker: Linker, _: Many) -> Answer:
            found[:] = [linker]
            return await linker.page(self.view, await get(self.pages, self.key, wish))

        with self.state.unread.hold(None) as holding:
            answer = await reading(self.state, wish, holding, EXPAND, read)
        return SubjectAnswer(answer, self.names | _entries(self.state, found[0].parts))

    def count_read(self) -> None:
        """Does nothing: what is read most are documents."""


@dataclass(frozen=True, slots=True)
class LookupSubject:
    """The document that has a value, whichever that is."""

    state: State
    source: LookupSource
    key: LookupKey

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def identity(self) -> Hashable:
        return self.source.name, self.key.canonical

    @property
    def groups(self) -> tuple[str, ...]:
        return (self.state.freshness.of(self.source.name).watches,)

    @property
    def absence(self) -> bytes:
        return self.source.absence

    @property
    def names(self) -> frozenset[bytes]:
        return frozenset((self.source.locate(self.key)[1].group,))

    def told(self) -> Hashable | None:
        generation = self.source.generation
        return generation.id if generation is not None and self.state.kinds.bounds(self.source.collection) else None

    async def get(self, wish: Wish) -> SubjectAnswer:
        return SubjectAnswer(await self.state.reader.get(self.source, self.key, wish), self.names)

    def count_read(self) -> None:
        """Does nothing: what is read most is counted by key."""


@dataclass(frozen=True, slots=True)
class FigureSubject:
    """Something of a counter or a ranking."""

    state: State
    figure: FigureSource
    key: Any
    absence: bytes = b""

    @property
    def name(self) -> str:
        return self.figure.name

    @property
    def groups(self) -> tuple[str, ...]:
        return (self.figure.resource.watcher_group,)

    @property
    def identity(self) -> Hashable:
        return self.figure.name, self.figure.canonical(self.key)

    @property
    def names(self) -> frozenset[bytes]:
        figure = self.figure
        return frozenset((group_name(figure.resource.name, figure.declaration, figure.slot(self.key)).encode(),))

    def told(self) -> Hashable | None:
        generation = self.figure.generation(self.state.known[self.figure.resource.name])
        return generation.id if generation is not None and self.state.kinds.bounds(self.figure.collection) else None

    async def get(self, wish: Wish) -> SubjectAnswer:
        known = self.state.known[self.figure.resource.name]
        return SubjectAnswer(await self.state.figures.get(self.figure, known, self.key, wish), self.names)

    def count_read(self) -> None:
        """Does nothing: what is read most are documents."""


def _all_told(state: State, view: View) -> bool:
    """Whether changes of all documents that it may show are told. Those of a collection that is made later are."""
    return all(state.kinds.bounds(state.sources.documents[resource].collection) for resource in view.resources)


def _groups(state: State, view: View) -> tuple[str, ...]:
    of = state.freshness.of
    return tuple(dict.fromkeys(of(resource).watches for resource in view.resources))


def _entries(state: State, parts: Iterable[Part]) -> frozenset[bytes]:
    documents = state.sources.documents
    return frozenset(documents[resource].locate(key)[0] for resource, key in parts)


def _name_of(view: View) -> Hashable:
    """Equal for views that show the same."""
    followed = tuple((each.path, _name_of(each.view)) for each in view.followed)
    return view.resource.name, _frozen(view.selection), followed


def _frozen(selection: Selection | None) -> Hashable:
    return None if selection is None else tuple((name, _frozen(below)) for name, below in selection.items())
