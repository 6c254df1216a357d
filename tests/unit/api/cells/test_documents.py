from typing import cast

from redis.asyncio import Redis

from neverstale.api.cells.documents import DocumentsInCells
from neverstale.api.cells.readers import tag_of
from neverstale.api.reads.read_counts import NOWHERE, ReadCounts
from neverstale.catalog import Catalog
from neverstale.kafka.events import record_key
from neverstale.kafka.partitioner import partition_of
from neverstale.keys import Names
from neverstale.redis.cache import Cache
from neverstale.redis.most_read import Popularity

CATALOG = Catalog.model_validate(
    {"database": "nyc", "resources": {"flights": {"collection": "f", "key_type": "string"}}}
)


class Counted:
    now: int | None = None


def documents(counted: Counted) -> DocumentsInCells:
    cache = Cache(cast("Redis", None), Names("ns"))
    counts = ReadCounts(Names("ns"), Popularity(cache, 60))
    return DocumentsInCells(
        CATALOG.resources["flights"],
        cache,
        counts,
        "/v1/flights/",
        database="nyc",
        watchers="default",
        partitions=counted,
    )


def test_a_document_lies_in_the_cell_of_the_partition_to_which_its_changes_are_published() -> None:
    counted = Counted()
    found = documents(counted)
    for counted.now in (1, 4, 8):
        for key in ("AA1", "é", "a}b:{c"):
            partition = partition_of(record_key("nyc", "f", f"s:{key}"), counted.now)
            tag = f"default.{counted.now}.{partition}"
            for _ in range(2):
                entry, place = found.locate(key)
                assert entry == f"ns:{{{tag}}}:flights:d:s:{key}".encode()
                assert place is not None and place.cell == tag.encode()
            assert tag_of(found.locate(key)[0]) == tag.encode()


def test_while_nobody_has_told_how_many_partitions_there_are_a_document_lies_nowhere() -> None:
    assert documents(Counted()).locate("AA1")[0] == NOWHERE


def test_who_watches_a_document_goes_on_when_it_lies_elsewhere() -> None:
    counted = Counted()
    found = documents(counted)
    names = set()
    for counted.now in (None, 4, 8):
        names.add(found.watched_as("AA1"))
    assert names == {b"ns:flights:d:s:AA1"}
