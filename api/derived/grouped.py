"""Grouped sources: what is read from MongoDB for a group of documents, cached as entries that tags vouch for.

Such an entry is like a document's. It is valid at or above the collection's floor, its list's floor and its group's
tag, which are looked up in the same pipeline, behind the entry (see docs/derived.md). Pages of lists are of this
kind, and so are look-ups, whose groups have one document each.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, Protocol

from neverstale.api.derived.generations import Known
from neverstale.api.reads.ask import Ask
from neverstale.api.reads.l1 import L1, Reading
from neverstale.api.reads.source import QUERIES_A_READ, Part, Place
from neverstale.catalog import OnChange, Resource
from neverstale.catalog.declarations import declared_as
from neverstale.derived import reading
from neverstale.derived.generations import Generation
from neverstale.derived.redis_names import LIST_FLOOR, PRESENT, GenerationNames, slot_of
from neverstale.mongodb.loader import Found, Loader, Snapshot
from neverstale.redis.announcements import group_name
from neverstale.redis.cache import Cache
from neverstale.role.damage import Damage
from neverstale.versions import Version, is_hex, to_hex

NO_GENERATION: Final = "-"
AT_ONCE: Final = 4
"""Queries of one read."""
MOST_LOCATED: Final = 16_384
"""Keys of one source of which it is remembered where their entries lie."""


class GroupKey(Protocol):
    """What is asked of one group."""

    @property
    def canonical(self) -> str: ...

    @property
    def group(self) -> str: ...


class GroupedSource(ABC):
    """Read and cached like documents (`neverstale.api.reads.source.CachedSource`)."""

    on_change: OnChange = "invalidate"
    keys_a_read = QUERIES_A_READ

    def __init__(self, resource: Resource, list_name: str, name: str, cache: Cache, known: Known) -> None:
        """`list_name`: whose tags vouch for it. `name`: in metrics and logs."""
        self.resource = resource
        self.declared = resource.derived.lists[list_name]
        self.list_name = list_name
        self.name = name
        self.collection = resource.collection
        self.ttl_seconds = resource.ttl_seconds
        self.absent_ttl_seconds = resource.absent_ttl_seconds
        self.stale_while_revalidate_seconds = resource.stale_while_revalidate_seconds
        self._cache = cache
        self._known = known
        self._digest = resource.derived.digests()[declared_as("lists", list_name)]
        self.shows = blake2b(f"{self._digest} {resource.shows}".encode(), digest_size=3).hexdigest()
        self._projection = dict.fromkeys(resource.fields, 1) if resource.fields is not None else None
        self._moment = known.moment
        self._located: dict[str, tuple[bytes, Place]] = {}

    @property
    def generation(self) -> Generation | None:
        """The generation whose tags vouch for entries now; `None`: there is none."""
        return self._known.for_list(self.list_name, self._digest)

    @abstractmethod
    async def load(self, loader: Loader, keys: Sequence[Any], at_least: Version) -> Snapshot:
        """Reads all at one version."""

    @abstractmethod
    async def _find(self, loader: Loader, key: Any, at_least: Version, at: Version) -> Found:
        """Reads what one key asks for, at a version >= `at_least`, or exactly `at`."""

    async def _find_all(self, loader: Loader, keys: Sequence[Any], at_least: Version) -> list[Found]:
        """Reads all, in order, at the version of the first."""
        first, *rest = keys
        found = [await self._find(loader, first, at_least, 0)]
        version = found[0].version
        for start in range(0, len(rest), AT_ONCE):
            some = (self._find(loader, key, at_least, version) for key in rest[start : start + AT_ONCE])
            found += await asyncio.gather(*some)
        return found

    @abstractmethod
    def is_absence(self, body: bytes | None) -> bool: ...

    @abstractmethod
    def entry_of(self, own: GenerationNames, key: Any) -> bytes:
        """The name of the entry among those of a generation."""

    def canonical(self, key: GroupKey) -> str:
        return key.canonical

    def locate(self, key: GroupKey) -> tuple[bytes, Place]:
        if self._moment is not self._known.moment or len(self._located) >= MOST_LOCATED:
            self._moment, self._located = self._known.moment, {}
        found = self._located.get(key.canonical)
        if found is None:
            found = self._located[key.canonical] = self._locate(key)
        return found

    def _locate(self, key: GroupKey) -> tuple[bytes, Place]:
        generation = self.generation
        own = self._known.names.of(generation.id if generation is not None else NO_GENERATION)
        slot = slot_of(key.group)
        group = group_name(self.resource.name, self.list_name, slot).encode()
        return self.entry_of(own, key), Place(generation, slot, group)

    def announced(self, asks: Iterable[Ask]) -> Collection[bytes]:
        return {ask.place.group for ask in asks if ask.place is not None}

    async def read(self, asks: Sequence[Ask]) -> list[Part]:
        by_generation: dict[str, tuple[Generation, dict[bytes, bytes]]] = {}
        unknown: dict[bytes, bytes | None] = {}
        for ask in asks:
            key, place = ask.entry_key, ask.place
            if place is None or place.generation is None:
                unknown[key] = None
                continue
            held = by_generation.get(place.generation.id)
            if held is None:
                held = by_generation[place.generation.id] = place.generation, {}
            held[1][key] = place.slot
        parts = [Part(None, unknown)] if unknown else []
        for generation, slots in by_generation.values():
            parts += await self._of_generation(generation, slots)
        return parts

    async def _of_generation(self, generation: Generation, slots: Mapping[bytes, bytes]) -> list[Part]:
        keys = list(slots)
        tags_key = self._known.names.of(generation.id).tags(self.list_name)
        (floor, *raws), (present, list_floor, *tags), epoch = await self._cache.send(
            ("MGET", self._cache.names.floor(self.collection), *keys),
            ("HMGET", tags_key, PRESENT, LIST_FLOOR, *slots.values()),
            self._known.epoch_command(),
        )
        held = dict(zip(keys, raws, strict=True))
        damage = self._cache.damage
        least = reading.page_floor(generation, damage.register(floor), (present, list_floor, None), damage)
        if least is None or not await self._known.kept(generation, epoch):
            return [Part(None, held)]
        return _parts(least, held, tags, damage)

    def keep(self, l1: L1, reading: Reading, ask: Ask, line: bytes, tail: bytes) -> None:
        # Redis forgets in time what says when it ends; in L1 nobody would.
        if self.resource.expires_field is None and ask.place is not None:
            l1.keep_page(reading, ask.place.group, line, tail)

    def count_read(self, entry_key: bytes, times: int = 1) -> None:  # noqa: B027
        """Does nothing: what is read most are documents."""


def _parts(
    least: Version, held: dict[bytes, bytes | None], tags: Sequence[bytes | None], damage: Damage
) -> list[Part]:
    """Pages with their floors: the least one, or a higher tag. What is above its tag may go with the rest, so that
    there is one part unless something is stale."""
    text = to_hex(least).encode()
    parts = [Part(least, held)]
    stale: dict[bytes, bytes] = {}
    for (key, raw), tag in zip(held.items(), tags, strict=True):
        if tag is not None and (not is_hex(tag) or (tag > text and (raw is None or raw[3:19] < tag))):
            stale[key] = tag
    for key, tag in stale.items():
        parts.append(Part(damage.version("derived", tag), {key: held.pop(key)}))
    return parts if held else parts[1:]
