"""Look-ups: one document by another of its fields, the value of which only one document has.

To consumers a look-up is a list whose groups are values: whatever changes a document raises the tags of the values
that it has and had. So all that is proved of lists holds of look-ups, absences too (docs/derived.md). What is kept
under a value is the document itself, so a hit takes one round trip and is never put together of two states.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from neverstale.api.derived.generations import Known
from neverstale.api.derived.grouped import GroupedSource
from neverstale.api.reads.answer import NotUnique
from neverstale.api.reads.source import measured
from neverstale.api.web.problems import unknown_value
from neverstale.bson.texts import text_of
from neverstale.catalog import Resource
from neverstale.catalog.lookups import list_name
from neverstale.derived.lists import queries
from neverstale.derived.redis_names import GenerationNames
from neverstale.errors import NeverstaleError
from neverstale.mongodb import bson_json
from neverstale.mongodb.kinds import least_told
from neverstale.mongodb.loader import OFF_LOOP_BYTES, Found, Loader, Snapshot
from neverstale.redis.cache import Cache
from neverstale.redis.entries import etag_of
from neverstale.redis.entry_ttl import first_expiry
from neverstale.versions import Version

ENTRY: Final = "1"
"""Of a value there is one entry, where a group of a list has pages."""


@dataclass(frozen=True, slots=True)
class LookupKey:
    """A value that is looked up."""

    canonical: str
    """The text that makes its group."""
    value: Any = field(compare=False)

    @property
    def group(self) -> str:
        return self.canonical


def lookup_sources(resource: Resource, cache: Cache, known: Known, _: bytes) -> Iterator["LookupSource"]:
    """Of all look-ups of a resource."""
    return (LookupSource(resource, path, cache, known) for path in resource.lookups)


class LookupSource(GroupedSource):
    """The documents of one resource by one field."""

    def __init__(self, resource: Resource, path: str, cache: Cache, known: Known) -> None:
        super().__init__(resource, list_name(path), f"{resource.name}.lookups.{path}", cache, known)
        self.path = path
        self.absence = unknown_value(resource.name, path).body
        """What the answer says where there is no such document."""

    def key(self, value: Any) -> LookupKey:
        return LookupKey(text_of(value), value)

    def entry_of(self, own: GenerationNames, key: LookupKey) -> bytes:
        return own.page(self.list_name, key.group, ENTRY)

    def is_absence(self, body: bytes | None) -> bool:
        return body is None

    @measured
    async def load(self, loader: Loader, keys: Sequence[LookupKey], at_least: Version) -> Snapshot:
        """Reads all at the version of the first."""
        found = await self._find_all(loader, keys, at_least)
        bodies: dict[str, bytes] = {}
        etags: dict[str, bytes] = {}
        expiries: dict[str, int] = {}
        refused: dict[str, NeverstaleError] = {}
        for key, one in zip(keys, found, strict=True):
            if len(one.rows) > 1 or one.cut:
                refused[key.canonical] = NotUnique(self.resource.name, self.path)
            elif one.rows:
                large = one.size > OFF_LOOP_BYTES
                body, etag = await asyncio.to_thread(_made, one.rows[0]) if large else _made(one.rows[0])
                bodies[key.canonical], etags[key.canonical] = body, etag
                if (expiry := first_expiry(one.rows, self.resource.expires_field)) is not None:
                    expiries[key.canonical] = expiry
        kind = least_told(one.kind for one in found)
        return Snapshot(found[0].version, bodies, expiries, kind, etags, refused)

    async def _find(self, loader: Loader, key: LookupKey, at_least: Version, at: Version) -> Found:
        command = queries.lookup(self.collection, self.path, key.value, self._projection)
        return await loader.query(command, at_least, at)


def _made(document: dict[str, Any]) -> tuple[bytes, bytes]:
    """Body and ETag, which are those of the document by its `_id`."""
    body = bson_json.encode(document)
    return body, etag_of(body)
