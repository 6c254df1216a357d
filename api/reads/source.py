"""Sources: what can be read. A resource is one of documents; lists, counters and rankings are others.

A source has keys, and a version at which the answers to some of them were read: `Snapshot` maps the canonical texts
of keys to bodies.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from neverstale.catalog import OnChange, Resource
from neverstale.derived.generations import Generation
from neverstale.keys import canonical
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.redis.cache import Cache
from neverstale.role import telemetry
from neverstale.versions import Version

NOTHING: Final = b'{"items":[]'
"""How the body of an empty page begins."""


class Source(Protocol):
    """What the reader has to know of it."""

    @property
    def name(self) -> str:
        """In metrics and logs."""

    @property
    def collection(self) -> str: ...

    @property
    def ttl_seconds(self) -> int: ...

    @property
    def absent_ttl_seconds(self) -> int: ...

    @property
    def on_change(self) -> OnChange: ...

    @property
    def stale_while_revalidate_seconds(self) -> int: ...


class Queried(Source, Protocol):
    """A source whose answers are found by queries of its own."""

    async def load(self, loader: Loader, keys: Sequence[Any], at_least: Version) -> Snapshot:
        """Like `Loader.load`; may raise `TooSlow`, too."""


AnySource: TypeAlias = Resource | Queried


def is_absence(source: AnySource, body: bytes | None) -> bool:
    """Whether an answer says that there is nothing. Callers can think of as many as they like."""
    return body is None or (not isinstance(source, Resource) and body.startswith(NOTHING))


async def load(loader: Loader, source: AnySource, keys: Sequence[Any], at_least: Version) -> Snapshot:
    """Read MongoDB."""
    if isinstance(source, Resource):
        return await loader.load(source, keys, at_least)
    started = time.perf_counter()
    snapshot = await source.load(loader, keys, at_least)
    telemetry.LOADS.labels(source.name).inc()
    telemetry.LOAD_SECONDS.observe(time.perf_counter() - started)
    return snapshot


class Place(NamedTuple):
    """What vouches for a page."""

    generation: Generation | None
    """`None`: nothing does."""
    slot: bytes
    """The field of its group's tag."""
    group: bytes
    """How changes of the group are announced."""


class Named(NamedTuple):
    """One key of a source, as the cache knows it."""

    canonical: str
    entry_key: bytes
    place: Place | None


@dataclass(slots=True)
class Part:
    """Entries with one floor."""

    floor: Version | None
    """What is older is stale; `None`: unknown, nothing may be served or cached."""
    raws: dict[bytes, bytes | None]
    """Entry key -> what Redis holds."""


class Shelf(Protocol):
    """Of one source."""

    def name(self, key: Any) -> Named: ...

    def announced(self, wanted: Mapping[bytes, Place | None]) -> Collection[bytes]:
        """What announcements call these entries."""

    async def read(self, wanted: Mapping[bytes, Place | None]) -> list[Part]:
        """The entries with these keys, in one round trip as a rule. Raises `Outage`."""


class DocumentShelf:
    """All documents of a collection share its floor."""

    def __init__(self, cache: Cache, resource: str, collection: str) -> None:
        self._cache = cache
        self._prefix = cache.names.entry_prefix(resource)
        self._collection = collection

    def name(self, key: Any) -> Named:
        text = canonical(key)
        return Named(text, self._prefix + text.encode(), None)

    def announced(self, wanted: Mapping[bytes, Place | None]) -> Collection[bytes]:
        return wanted.keys()

    async def read(self, wanted: Mapping[bytes, Place | None]) -> list[Part]:
        keys = list(wanted)
        floor, raws = await self._cache.read_raw(self._collection, keys)
        return [Part(floor, dict(zip(keys, raws, strict=True)))]
