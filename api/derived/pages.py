"""Pages of lists: what MongoDB is asked for them, and what their bodies say."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final

from neverstale.api.derived import cursors
from neverstale.api.derived.cursors import Cursor
from neverstale.api.derived.generations import Known
from neverstale.api.derived.grouped import GroupedSource
from neverstale.api.reads.answer import TooLong
from neverstale.api.reads.source import is_nothing, measured
from neverstale.bson.texts import text_of
from neverstale.catalog import Resource
from neverstale.derived.lists import queries
from neverstale.derived.lists.queries import Stretch
from neverstale.derived.redis_names import GenerationNames
from neverstale.errors import Refused
from neverstale.mongodb import bson_json
from neverstale.mongodb.kinds import least_told
from neverstale.mongodb.loader import OFF_LOOP_BYTES, Found, Loader, Snapshot
from neverstale.redis.cache import Cache
from neverstale.redis.entries import etag_of
from neverstale.redis.entry_ttl import first_expiry
from neverstale.versions import Version

BODIES: Final = 2
"""How pages are spelled. Rises when the same page is spelled otherwise."""


@dataclass(frozen=True, slots=True)
class PageKey:
    """One page of one group."""

    canonical: str
    group: str = field(compare=False)
    values: Sequence[Any] = field(compare=False)
    cursor: Cursor | None = field(compare=False)
    """`None`: the first page."""
    limit: int = field(compare=False)
    """Items."""
    span: Mapping[str, Any] = field(compare=False)
    """The range of the first sorted field (`neverstale.derived.lists.queries.Stretch`)."""


def page_sources(resource: Resource, cache: Cache, known: Known, secret: bytes) -> Iterator["PageSource"]:
    """Of all lists of a resource. `secret`: signs cursors."""
    return (PageSource(resource, name, cache, known, secret) for name in resource.lists)


class PageSource(GroupedSource):
    """One list."""

    def __init__(self, resource: Resource, list_name: str, cache: Cache, known: Known, secret: bytes = b"") -> None:
        """`secret`: signs cursors; see `neverstale.api.derived.cursors`."""
        super().__init__(resource, list_name, f"{resource.name}.lists.{list_name}", cache, known)
        self._secret = secret
        self.shows = blake2b(f"{BODIES} {self.shows}".encode(), digest_size=3).hexdigest()

    def key(
        self,
        group: str,
        values: Sequence[Any],
        cursor: str | None,
        limit: int | None = None,
        span: Mapping[str, Any] = MappingProxyType({}),
    ) -> PageKey:
        """The page of a group at a cursor; raises `WrongCursor`. `limit`: items, by default `page_size`."""
        owner = cursors.owner(self._digest, group, self._secret)
        if cursor is None:
            # Pages hold cursors: one of another release or secret is another page.
            at, name = None, owner[:8].hex()
        else:
            at = cursors.decode(cursor, owner, len(self.declared.order))
            # Spelled once more, for one cursor has several spellings.
            name = blake2b((cursors.encode(at, owner) or cursor).encode(), digest_size=16).hexdigest()
        size = self.declared.page_size
        if limit is not None and limit != size:
            name, size = f"{name}.{limit}", limit
        if span:
            spelled = "|".join(f"{by} {text_of(value)}" for by, value in sorted(span.items()))
            name = f"{name}.{blake2b(spelled.encode(), digest_size=16).hexdigest()}"
        return PageKey(f"{group}\n{name}", group, values, at, size, span)

    def is_cached(self, key: PageKey) -> bool:
        """Whether the page is one of the first, which are kept in Redis. Ranges are as many as callers like."""
        return not key.span and (key.cursor.number if key.cursor is not None else 0) < self.declared.cached_pages

    def entry_of(self, own: GenerationNames, key: PageKey) -> bytes:
        return own.page(self.list_name, key.group, key.canonical.rpartition("\n")[2])

    def is_absence(self, body: bytes | None) -> bool:
        return is_nothing(body)

    @measured
    async def load(self, loader: Loader, keys: Sequence[PageKey], at_least: Version) -> Snapshot:
        """Reads all at the version of the first."""
        pages = await self._find_all(loader, keys, at_least)
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
        return Snapshot(pages[0].version, bodies, expiries, least_told(page.kind for page in pages), _etags=etags)

    async def _find(self, loader: Loader, key: PageKey, at_least: Version, at: Version) -> Found:
        stretch, begin = Stretch(limit=key.limit, span=key.span), key.cursor
        if begin is not None:
            stretch = replace(stretch, position=begin.position, back=begin.back, inclusive=begin.inclusive)
        command = queries.list_page(self.collection, self.declared, key.values, stretch, self._projection)
        return await loader.query(command, at_least, at)

    def _made(self, key: PageKey, found: Found) -> tuple[bytes, bytes]:
        """Body and ETag."""
        body = self._body(key, found)
        return body, etag_of(body)

    def _body(self, key: PageKey, found: Found) -> bytes:
        rows = found.rows[: key.limit]
        positions = [row.pop(queries.SORT_KEY, None) for row in rows]
        onward, other = "null", "null"
        if key.cursor is not None:
            owner = cursors.owner(self._digest, key.group, self._secret)
            other = f'"{cursors.encode(key.cursor.turned, owner)}"'
        if rows and (found.cut or len(found.rows) > len(rows)):
            if None in positions:
                # A time series tells no sort keys.
                remedy = "only the first page can be read; name an ordinary collection in the catalog"
                raise Refused(None, "NoSortKey", "collection", remedy, heals=False)
            shown, cursor = self._onward(key, positions)
            rows, onward = rows[:shown], f'"{cursor}"'
        back = key.cursor is not None and key.cursor.back
        items = b",".join(map(bson_json.encode, reversed(rows) if back else rows))
        following, before = (other, onward) if back else (onward, other)
        return b'{"items":[%b],"next":%b,"prev":%b}' % (items, following.encode(), before.encode())

    def _onward(self, key: PageKey, positions: Sequence[Sequence[Any]]) -> tuple[int, str]:
        """How many items the page shows, and the cursor behind them; before them on the way back.

        It ends earlier where no cursor can hold the last position, so that such a document harms only its own page.
        """
        here = key.cursor or Cursor(0, ())
        owner = cursors.owner(self._digest, key.group, self._secret)
        for shown in range(len(positions), 0, -1):
            if cursor := cursors.encode(here.onward(tuple(positions[shown - 1])), owner):
                return shown, cursor
        raise TooLong(self.name)
