"""Sources of documents without a Redis, for tests of what reads them."""

from typing import cast

from redis.asyncio import Redis

from neverstale.api.reads.read_counts import ReadCounts
from neverstale.api.reads.source import DocumentSource
from neverstale.catalog import Resource
from neverstale.keys import Names
from neverstale.redis.cache import Cache
from neverstale.redis.most_read import Popularity


def documents_of(resource: Resource, prefix: str = "ns") -> DocumentSource:
    """The documents of a resource, of which nothing is read from Redis here."""
    names = Names(prefix)
    cache = Cache(cast("Redis", None), names)
    counts = ReadCounts(names, Popularity(cache, 60))
    return DocumentSource(resource, cache, counts, f"/v1/{resource.name}/")
