"""Pages of lists: a source whose entries are vouched for by tags (see docs/derived.md).

A page is an entry like a document's. It is valid at or above the collection's floor, its list's floor and its
group's tag, which are looked up in the same pipeline, behind the entry.
"""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from api.derived import cursors
from api.derived.cursors import Cursor
from api.derived.generations import Known
from api.reads.answer import TooLong
from api.reads.source import Named, Part, Place
from neverstale.catalog import OnChange, Resource
from neverstale.declarations import ListDeclaration
from neverstale.derived import queries, reading
from neverstale.derived.generations import Generation
from neverstale.derived.redis_names import LIST_FLOOR, PRESENT, slot_of
from neverstale.errors import Refused
from neverstale.mongodb import bson_json
from neverstale.mongodb.kinds import least_told
from neverstale.mongodb.loader import OFF_LOOP_BYTES, Found, Loader, Snapshot
from neverstale.redis.announcements import group_name
from neverstale.redis.cache import Cache
from neverstale.redis.entries import etag_of
from neverstale.redis.entry_ttl import first_expiry
from neverstale.role.damage import Damage
from neverstale.versions import Version, is_hex, to_hex

NO_GENERATION: Final = "-"
AT_ONCE: Final = 4
"""Queries of one read."""


@dataclass(frozen=True, slots=True)
class PageKey:
    """One page of one group."""

    canonical: str
    group: str = field(compare=False)
    values: Sequence[Any] = field(compare=False)
    cursor: Cursor | None = field(compare=False)
    """`None`: the first page."""


class PageSource:
    """One list. Its pages are read like documents (`api.reads.source.Queried`)."""

    on_change: OnChange = "invalidate"

    def __init__(self, resource: Resource, list_name: str, declared: ListDeclaration, secret: bytes = b"") -> None:
        """`secret`: signs cursors; see `api.derived.cursors`."""
        self.resource = resource
        self._secret = secret
        self.declared = declared
        self.list_name = list_name
        self.name = f"{resource.name}.lists.{list_name}"
        self.collection = resource.collection
        self.ttl_seconds = resource.ttl_seconds
        self.absent_ttl_seconds = resource.absent_ttl_seconds
        self.stale_while_revalidate_seconds = resource.stale_while_revalidate_seconds
        self.digest = resource.derived.digests()[f"lists.{list_name}"]
        fields = resource.fields
        self._projection = dict.fromkeys(fields, 1) if fields is not None else None

    def key(self, group: str, values: Sequence[Any], cursor: str | None) -> PageKey:
        """The page of a group at a cursor; raises `WrongCursor`."""
        owner = cursors.owner(self.digest, group, self._secret)
        if cursor is None:
            # Pages hold cursors: one of another release or secret is another page.
            return PageKey(f"{group}\n{owner[:8].hex()}", group, values, None)
        at = cursors.decode(cursor, owner, len(self.declared.order))
        # Spelled anew, for one cursor has several spellings.
        digest = blake2b((cursors.encode(at, owner) or cursor).encode(), digest_size=16).hexdigest()
        return PageKey(f"{group}\n{digest}", group, values, at)

    def is_cached(self, key: PageKey) -> bool:
        """Whether the page is one of the first, which are kept in Redis."""
        return (key.cursor.number if key.cursor is not None else 0) < self.declared.cached_pages

    async def load(self, loader: Loader, keys: Sequence[PageKey], at_least: Version) -> Snapshot:
        """All at the version of the first."""
        first, *rest = keys
        found = await self._find(loader, first, at_least, 0)
        pages = [found]
        for start in range(0, len(rest), AT_ONCE):
            some = (self._find(loader, key, at_least, found.version) for key in rest[start : start + AT_ONCE])
            pages += await asyncio.gather(*some)
        bodies: dict[str, bytes] = {}
        etags: dict[str, bytes] = {}
        expiries: dict[str, int] = {}
        for key, page in zip(keys, pages, strict=True):
            many = page.size > OFF_LOOP_BYTES
            body, etag = await asyncio.to_thread(self._made, key, page) if many else self._made(key, page)
            bodies[key.canonical], etags[key.canonical] = body, etag
            expiry = first_expiry(page.rows, self.resource.expires_field)
            if not page.rows:
                # Groups that nobody has heard of are as many as callers can think of.
                expiry = round(time.time() + self.absent_ttl_seconds) * 1000
            if expiry is not None:
                expiries[key.canonical] = expiry
        return Snapshot(found.version, bodies, expiries, least_told(page.kind for page in pages), _etags=etags)

    async def _find(self, loader: Loader, key: PageKey, at_least: Version, at: Version) -> Found:
        position = key.cursor.position if key.cursor is not None else None
        command = queries.list_page(self.collection, self.declared, key.values, position, self._projection)
        return await loader.query(command, at_least, at)

    def _made(self, key: PageKey, found: Found) -> tuple[bytes, bytes]:
        """Body and ETag."""
        body = self._body(key, found)
        return body, etag_of(body)

    def _body(self, key: PageKey, found: Found) -> bytes:
        rows = found.rows[: self.declared.page_size]
        positions = [row.pop(queries.SORT_KEY, None) for row in rows]
        following = "null"
        if rows and (found.cut or len(found.rows) > len(rows)):
            if None in positions:
                # A time series tells no sort keys.
                remedy = "only the first page can be read; name an ordinary collection in the catalog"
                raise Refused(None, "NoSortKey", "collection", remedy, heals=False)
            shown, cursor = self._following(key, positions)
            rows, following = rows[:shown], f'"{cursor}"'
        return b'{"items":[%b],"next":%b}' % (b",".join(map(bson_json.encode, rows)), following.encode())

    def _following(self, key: PageKey, positions: Sequence[Sequence[Any]]) -> tuple[int, str]:
        """How many items the page shows, and the cursor behind them.

        It ends earlier where no cursor can hold the last position, so that such a document harms only its own page.
        """
        number = key.cursor.number + 1 if key.cursor is not None else 1
        owner = cursors.owner(self.digest, key.group, self._secret)
        for shown in range(len(positions), 0, -1):
            if cursor := cursors.encode(Cursor(number, tuple(positions[shown - 1])), owner):
                return shown, cursor
        raise TooLong(self.name)


class PageShelf:
    """Where the pages of one list lie."""

    def __init__(self, cache: Cache, pages: PageSource, known: Known) -> None:
        self._cache = cache
        self._pages = pages
        self._known = known

    @property
    def moment(self) -> object:
        """Another one whenever the names of pages may have changed."""
        return self._known.moment

    def name(self, key: PageKey) -> Named:
        pages, known = self._pages, self._known
        generation = known.for_list(pages.list_name, pages.digest)
        own = known.names.of(generation.id if generation is not None else NO_GENERATION)
        entry = own.page(pages.list_name, key.group, key.canonical.rpartition("\n")[2])
        slot = slot_of(key.group)
        group = group_name(pages.resource.name, pages.list_name, slot).encode()
        return Named(key.canonical, entry, Place(generation, slot, group))

    def announced(self, wanted: Mapping[bytes, Place | None]) -> Collection[bytes]:
        return {place.group for place in wanted.values() if place is not None}

    async def read(self, wanted: Mapping[bytes, Place | None]) -> list[Part]:
        by_generation: dict[str, tuple[Generation, dict[bytes, bytes]]] = {}
        unknown: dict[bytes, bytes | None] = {}
        for key, place in wanted.items():
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
        tags_key = self._known.names.of(generation.id).tags(self._pages.list_name)
        (floor, *raws), (present, list_floor, *tags), epoch = await self._cache.send(
            ("MGET", self._cache.names.floor(self._pages.collection), *keys),
            ("HMGET", tags_key, PRESENT, LIST_FLOOR, *slots.values()),
            self._known.epoch_command(),
        )
        held = dict(zip(keys, raws, strict=True))
        damage = self._cache.damage
        least = reading.page_floor(generation, damage.register(floor), (present, list_floor, None), damage)
        if least is None or not await self._known.kept(generation, epoch):
            return [Part(None, held)]
        return _parts(least, held, tags, damage)


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
