"""Shelves: where the entries of a source lie in Redis, and what makes them stale."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from neverstale.derived.generations import Generation
from neverstale.keys import canonical
from neverstale.redis.cache import Cache
from neverstale.versions import Version


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
