"""Coverage: what those who correct the cache know of, so that a reader can tell whether its own catalog is among it.

A consumer invalidates the entries of the resources that its catalog declares, and skips changes of fields that none
of them shows. So what another catalog adds, a field or a resource, is corrected only where every partition is applied
by a consumer that knows it, from marks of a watcher that watches its collection. Each consumer notes its coverage
with each watermark; an API uses the cache for what all partitions cover.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import orjson

from neverstale.catalog.file import Catalog
from neverstale.catalog.resource import Resource

DERIVED: Final = "."
"""`flights.` stands for what is derived of a resource, `flights` for all that is read of it."""


@dataclass(frozen=True, slots=True)
class Coverage:
    text: str
    digest: str
    """16 hex digits of the text."""

    @classmethod
    def of(cls, catalog: Catalog, watched: Collection[str] | None) -> "Coverage":
        """`watched`: collections whose changes are published; `None`: not told."""
        resources = {
            name: [
                catalog.database,
                resource.collection,
                resource.key_type,
                None if resource.fields is None else sorted(resource.fields),
                bool(resource.derived),
            ]
            for name, resource in sorted(catalog.resources.items())
            if watched is None or resource.collection in watched
        }
        text = orjson.dumps(resources).decode()
        return cls(text, blake2b(text.encode(), digest_size=8).hexdigest())


def needs_of(source: str) -> frozenset[str]:
    """What must be covered for a source to be read from the cache: `flights`, `flights.lists.departures`."""
    resource, dot, _ = source.partition(DERIVED)
    return frozenset((resource, resource + DERIVED) if dot else (resource,))


def lacks(catalog: Catalog, text: str | None) -> frozenset[str]:
    """What of a catalog a coverage does not cover; `None`: nobody knows what it says, so all of it."""
    known = _read(text) if text is not None else {}
    found: set[str] = set()
    for name, resource in catalog.resources.items():
        missing = _missing(catalog.database, resource, known.get(name))
        found |= {name + one for one in missing}
    return frozenset(found)


def _missing(database: str, resource: Resource, held: Any) -> tuple[str, ...]:
    match held:
        case [str() as of, str() as collection, str() as key_type, fields, bool() as derived] if (
            of,
            collection,
            key_type,
        ) == (database, resource.collection, resource.key_type) and (
            fields is None or (resource.fields is not None and set(resource.fields) <= set(map(str, fields)))
        ):
            return (DERIVED,) if resource.derived and not derived else ()
    return ("", DERIVED)


@lru_cache(maxsize=64)
def _read(text: str) -> Mapping[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
