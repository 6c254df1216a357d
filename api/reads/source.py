"""Sources: what can be read, and all that the cache knows of it.

A source has keys, and a version at which the answers to some of them were read: `Snapshot` maps the canonical texts
of keys to bodies. The documents of a resource are a source; so are the pages of a list
(`neverstale.api.derived.pages`), a counter and a ranking (`neverstale.api.derived.figures`). Answers of the first two
lie in Redis as entries, and in L1 by request line.
"""

import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Final, NamedTuple, ParamSpec, Protocol, TypeVar

from neverstale.api.reads.l1 import L1, Reading
from neverstale.api.reads.read_counts import ReadCounts
from neverstale.api.reads.spellings import spellings
from neverstale.catalog import OnChange, Resource
from neverstale.derived.generations import Generation
from neverstale.errors import Outage
from neverstale.keys import KeyValue, canonical
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.redis.cache import Cache
from neverstale.redis.commands import Command
from neverstale.role import telemetry
from neverstale.versions import Version

if TYPE_CHECKING:
    from neverstale.api.reads.ask import Ask

KEYS_A_READ = 500
"""More keys in one `$in` would hold up the event loop while their documents are encoded."""
QUERIES_A_READ: Final = 16
"""Keys that each take a query of their own."""
NOTHING: Final = b'{"items":[]'
"""How the body of an empty page begins."""


class Place(NamedTuple):
    """What vouches for a page; of a document only where it lies."""

    generation: Generation | None
    """`None`: nothing does."""
    slot: bytes
    """The field of its group's tag."""
    group: bytes
    """How changes of the group are announced."""
    cell: bytes = b""
    """The tag of the cell of a document, where there are many."""


@dataclass(slots=True)
class Part:
    """Entries with one floor."""

    floor: Version | None
    """What is older is stale; `None`: unknown, nothing may be served or cached."""
    raws: dict[bytes, bytes | None]
    """Entry key -> what Redis holds."""


class Source(Protocol):
    """What can be read from MongoDB by key."""

    @property
    def name(self) -> str:
        """In metrics and logs."""

    @property
    def collection(self) -> str: ...

    @property
    def keys_a_read(self) -> int:
        """One read of MongoDB takes at most so many."""

    def canonical(self, key: Any) -> str:
        """The text that names a key."""

    def is_absence(self, body: bytes | None) -> bool:
        """Whether an answer says that there is nothing. Callers can think of as many as they like."""

    async def load(self, loader: Loader, keys: Sequence[Any], at_least: Version) -> Snapshot:
        """Reads MongoDB as `Loader.load` does; may raise `TooSlow`, too."""


class CachedSource(Source, Protocol):
    """One whose answers are kept: in Redis as entries, in L1 by request line."""

    @property
    def shows(self) -> str:
        """6 hex digits of what an answer was declared to show; its entry carries them."""

    @property
    def ttl_seconds(self) -> int: ...

    @property
    def absent_ttl_seconds(self) -> int: ...

    @property
    def on_change(self) -> OnChange: ...

    @property
    def stale_while_revalidate_seconds(self) -> int: ...

    def locate(self, key: Any) -> tuple[bytes, Place | None]:
        """Where the entry of a key lies now, and what vouches for it besides the floor of its collection."""

    def announced(self, asks: Iterable["Ask"]) -> Collection[bytes]:
        """What announcements call these entries."""

    async def read(self, asks: Sequence["Ask"]) -> list[Part]:
        """Reads all entries that are asked for, in one round trip as a rule. Raises `Outage`."""

    def keep(self, l1: L1, reading: Reading, ask: "Ask", line: bytes, tail: bytes) -> None:
        """Keeps an answer in L1 under the line of a `GET`, if it is certain to go when what it holds has changed."""

    def count_read(self, entry_key: bytes, times: int = 1) -> None:
        """Notes that a body was read, where it is counted what is read most."""


class DocumentSource:
    """The documents of one resource. All documents of a collection share its floor."""

    def __init__(self, resource: Resource, cache: Cache, read_counts: ReadCounts, path: str) -> None:
        """`path`: where callers find them; the key follows."""
        self.resource = resource
        self.name = resource.name
        self.collection = resource.collection
        self.shows = resource.shows
        self.ttl_seconds = resource.ttl_seconds
        self.absent_ttl_seconds = resource.absent_ttl_seconds
        self.on_change = resource.on_change
        self.stale_while_revalidate_seconds = resource.stale_while_revalidate_seconds
        self.count_read = read_counts.saw
        self._cache = cache
        self._path = path.encode()
        self._prefix = cache.names.entry_prefix(resource.name)
        self._of_text = self._prefix + b"s:"

    @property
    def keys_a_read(self) -> int:
        return KEYS_A_READ

    def canonical(self, key: KeyValue) -> str:
        return canonical(key)

    def is_absence(self, body: bytes | None) -> bool:
        return body is None

    async def load(self, loader: Loader, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        return await loader.load(self.resource, keys, at_least)

    def locate(self, key: KeyValue) -> tuple[bytes, Place | None]:
        if type(key) is str:
            return self._of_text + key.encode(), None  # the same in a fraction of the time: every hit does this
        return self._prefix + canonical(key).encode(), None

    def watched_as(self, key: KeyValue) -> bytes:
        """What wakes those who watch a document."""
        return self.locate(key)[0]

    def announced(self, asks: Iterable["Ask"]) -> Collection[bytes]:
        return {ask.entry_key for ask in asks}

    async def read(self, asks: Sequence["Ask"]) -> list[Part]:
        keys = keys_of(asks)
        floor, raws = await self._cache.read_raw(self.collection, keys)
        return [Part(floor, dict(zip(keys, raws, strict=True)))]

    def reading(self, keys: Sequence[bytes]) -> Command:
        """The command that `read` sends."""
        return self._cache.reading(self.collection, keys)

    def read_in(self, keys: Sequence[bytes], reply: list[bytes | None]) -> list[Part]:
        """What a reply to `reading` says."""
        floor, raws = self._cache.read_in(reply)
        return [Part(floor, dict(zip(keys, raws, strict=True)))]

    def outage(self, error: Exception) -> Outage:
        """What it means that there was no reply."""
        return self._cache.outage(error)

    def lines(self, canonical_key: str) -> Collection[bytes]:
        """The request lines under which the answers of a document may be kept."""
        return spellings(self._path, canonical_key)

    def keep(self, l1: L1, reading: Reading, ask: "Ask", line: bytes, tail: bytes) -> None:
        # Redis forgets in time what says when it ends; in L1 nobody would.
        if self.resource.expires_field is None and line in self.lines(canonical(ask.key)):
            l1.keep(reading, ask.entry_key, line, tail)


def keys_of(asks: Sequence["Ask"]) -> list[bytes]:
    """The entries that are asked for, each once."""
    return list(dict.fromkeys([ask.entry_key for ask in asks]))


def is_nothing(body: bytes | None) -> bool:
    """Whether a page is empty, or there is none."""
    return body is None or body.startswith(NOTHING)


def has_something(source: Source, snapshot: Snapshot, key: str) -> bool:
    """Whether a read has found something under a canonical key."""
    return key in snapshot.refused or not source.is_absence(snapshot.bodies.get(key))


_Queried = TypeVar("_Queried", bound=Source)
_P = ParamSpec("_P")
_Load = Callable[Concatenate[_Queried, _P], Coroutine[Any, Any, Snapshot]]


def measured(load: _Load[_Queried, _P]) -> _Load[_Queried, _P]:
    """The `load` of a source that asks queries of its own; `Loader.load` measures itself."""

    @wraps(load)
    async def timed(source: _Queried, /, *arguments: _P.args, **options: _P.kwargs) -> Snapshot:
        started = time.perf_counter()
        snapshot = await load(source, *arguments, **options)
        telemetry.LOADS.labels(source.name).inc()
        telemetry.LOAD_SECONDS.observe(time.perf_counter() - started)
        return snapshot

    return timed
