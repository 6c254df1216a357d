"""Documents of one resource, each in the cell of its partition."""

from collections.abc import Sequence
from typing import Final, Protocol

from neverstale.api.reads.ask import Ask
from neverstale.api.reads.read_counts import NOWHERE, ReadCounts
from neverstale.api.reads.source import DocumentSource, Part, Place
from neverstale.catalog import Resource
from neverstale.kafka.events import record_key
from neverstale.kafka.partitioner import partition_of
from neverstale.keys import KeyValue, Names, canonical
from neverstale.redis.cache import Cache
from neverstale.redis.cells import document_tag

MOST_LOCATED: Final = 65_536
"""Documents of which it is remembered where they lie: to find out takes longer than all else for a hit in memory."""


class PartitionsNow(Protocol):
    """A number that changes."""

    @property
    def now(self) -> int | None:
        """`None`: unknown."""


class DocumentsInCells(DocumentSource):
    """`partitions`: how many there are now."""

    def __init__(
        self,
        resource: Resource,
        cache: Cache,
        read_counts: ReadCounts,
        path: str,
        *,
        database: str,
        watchers: str,
        partitions: PartitionsNow,
    ) -> None:
        super().__init__(resource, cache, read_counts, path)
        self._names: Names = cache.names
        self._database = database
        self._watchers = watchers
        self._partitions = partitions
        self._counted: int | None = None
        self._prefixes: list[tuple[bytes, Place]] = []
        self._located: dict[KeyValue, tuple[bytes, Place | None]] = {}

    def locate(self, key: KeyValue) -> tuple[bytes, Place | None]:
        if self._partitions.now != self._counted:
            self._count_again()
        found = self._located.get(key)
        if found is None:
            if len(self._located) >= MOST_LOCATED:
                self._located.clear()
            found = self._located[key] = self._locate(canonical(key))
        return found

    def _count_again(self) -> None:
        self._counted = self._partitions.now
        self._located.clear()
        tags = (
            [document_tag(self._watchers, self._counted, at) for at in range(self._counted)] if self._counted else []
        )
        self._prefixes = [
            (self._names.cell(tag).entry_prefix(self.name), Place(None, b"", b"", tag.encode())) for tag in tags
        ]

    def _locate(self, canonical_key: str) -> tuple[bytes, Place | None]:
        if not self._prefixes:
            return NOWHERE, None
        partition = partition_of(record_key(self._database, self.collection, canonical_key), len(self._prefixes))
        prefix, place = self._prefixes[partition]
        return prefix + canonical_key.encode(), place

    def watched_as(self, key: KeyValue) -> bytes:
        """Wherever it lies: those who watch it stay when the number of partitions changes."""
        return self._prefix + canonical(key).encode()

    async def read(self, asks: Sequence[Ask]) -> list[Part]:
        """Each cell has its own reader, which reads what lies there."""
        raise AssertionError("documents are read by the readers of their cells")
