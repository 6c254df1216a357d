"""Pages of lists: a source whose entries are vouched for by tags (see docs/derived.md).

A page is an entry like a document's. It is valid at or above the collection's floor, its list's floor and its
group's tag, which are looked up in the same pipeline, behind the entry.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from neverstale.api.derived import cursors
from neverstale.api.derived.cursors import Cursor
from neverstale.api.derived.generations import Known
from neverstale.api.reads.answer import TooLong
from neverstale.api.reads.ask import Ask
from neverstale.api.reads.l1 import L1, Reading
from neverstale.api.reads.source import QUERIES_A_READ, Part, Place, is_nothing, measured
from neverstale.catalog import OnChange, Resource
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
MOST_LOCATED: Final = 16_384
"""Pages of one list of which it is remembered where they lie."""


@dataclass(frozen=True, slots=True)
class PageKey:
    """One page of one group."""

    canonical: str
    group: str = field(compare=False)
    values: Sequence[Any] = field(compare=False)
    cursor: Cursor | None = field(compare=False)
    """`None`: the first page."""


class PageSource:
    """One list. Its pages are read and cached like documents (`neverstale.api.reads.source.CachedSource`)."""

    on_change: OnChange = "invalidate"
    keys_a_read = QUERIES_A_READ

    def __init__(self, resource: Resource, list_name: str, cache: Cache, known: Known, secret: bytes = b"") -> None:
        """`secret`: signs cursors; see `neverstale.api.derived.cursors`."""
        self.resource = resource
        self.declared = resource.lists[list_name]
        self.list_name = list_name
        self.name = f"{resource.name}.lists.{list_name}"
        self.collection = resource.collection
        self.ttl_seconds = resource.ttl_seconds
        self.absent_ttl_seconds = resource.absent_ttl_seconds
        self.stale_while_revalidate_seconds = resource.stale_while_revalidate_seconds
        self._cache = cache
        self._known = known
        self._secret = secret
        self._digest = resource.derived.digests()[f"lists.{list_name}"]
        self.shows = blake2b(f"{self._digest} {resource.shows}".encode(), digest_size=3).hexdigest()
        self._projection = dict.fromkeys(resource.fields, 1) if resource.fields is not None else None
        self._moment = known.moment
        self._located: dict[str, tuple[bytes, Place]] = {}

    @property
    def generation(self) -> Generation | None:
        """The generation whose tags vouch for pages now; `None`: there is none."""
        return self._known.for_list(self.list_name, self._digest)

    def key(self, group: str, values: Sequence[Any], cursor: str | None) -> PageKey:
        """The page of a group at a cursor; raises `WrongCursor`."""
        owner = cursors.owner(self._digest, group, self._secret)
        if cursor is None:
            # Pages hold cursors: one of another release or secret is another page.
            return PageKey(f"{group}\n{owner[:8].hex()}", group, values, None)
        at = cursors.decode(cursor, owner, len(self.declared.order))
        # Spelled once more, for one cursor has several spellings.
        digest = blake2b((cursors.encode(at, owner) or cursor).encode(), digest_size=16).hexdigest()
        return PageKey(f"{group}\n{digest}", group, values, at)

    def is_cached(self, key: PageKey) -> bool:
        """Whether the page is one of the first, which are kept in Redis."""
        return (key.cursor.number if key.cursor is not None else 0) < self.declared.cached_pages

    def canonical(self, key: PageKey) -> str:
        return key.canonical

    def is_absence(self, body: bytes | None) -> bool:
        return is_nothing(body)

    @measured
    async def load(self, loader: Loader, keys: Sequence[PageKey], at_least: Version) -> Snapshot:
        """Reads all at the version of the first."""
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
        owner = cursors.owner(self._digest, key.group, self._secret)
        for shown in range(len(positions), 0, -1):
            if cursor := cursors.encode(Cursor(number, tuple(positions[shown - 1])), owner):
                return shown, cursor
        raise TooLong(self.name)

    # --- in the cache

    def locate(self, key: PageKey) -> tuple[bytes, Place]:
        if self._moment is not self._known.moment or len(self._located) >= MOST_LOCATED:
            self._moment, self._located = self._known.moment, {}
        found = self._located.get(key.canonical)
        if found is None:
            found = self._located[key.canonical] = self._locate(key)
        return found

    def _locate(self, key: PageKey) -> tuple[bytes, Place]:
        generation = self.generation
        own = self._known.names.of(generation.id if generation is not None else NO_GENERATION)
        entry = own.page(self.list_name, key.group, key.canonical.rpartition("\n")[2])
        slot = slot_of(key.group)
        group = group_name(self.resource.name, self.list_name, slot).encode()
        return entry, Place(generation, slot, group)

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

    def count_read(self, entry_key: bytes, times: int = 1) -> None:
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
