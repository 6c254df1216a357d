"""All that Redis holds of ours, opened: to whoever looks into it a cell is a Redis (`neverstale.redis.cells`).

Where all is one cell, every question goes to that. Where each partition's documents, and what is derived of each
resource, have cells of their own, whoever asks says what he asks for, and is given its cell.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from pymongo import AsyncMongoClient
from redis.exceptions import RedisError

from neverstale.catalog import Catalog, Resource
from neverstale.derived.generations import UnknownFormat
from neverstale.derived.redis_names import derived_tag
from neverstale.derived.store import DerivedStore
from neverstale.errors import Stop
from neverstale.kafka.events import record_key
from neverstale.kafka.partitioner import partition_of
from neverstale.keys import Names
from neverstale.mongodb.loader import Loader
from neverstale.ops.servers import patient
from neverstale.redis import partition_counts
from neverstale.redis.cells import document_tag
from neverstale.redis.corrections import Corrections
from neverstale.redis.nodes import Nodes, nodes_of
from neverstale.servers import mongo_client
from neverstale.settings import Settings
from neverstale.watcher_groups import settings_of

LANE: Final = "asked"


@dataclass(frozen=True, slots=True)
class KeyCell:
    """Where a document lies."""

    cell: Corrections | None
    """`None`: no mark has told yet how many partitions there are."""
    partition: int | None
    """Of that many; `None`: unknown, or all partitions write this cell."""


class Stores:
    """The cells of one Redis or Redis Cluster. Raises `Outage("redis")` for everything that is not an answer."""

    def __init__(self, settings: Settings, catalog: Catalog, nodes: Nodes, *, corrects: bool = False) -> None:
        """`corrects`: what is sent waits while a cell is being moved (`Nodes.to_cell`)."""
        self.commands: Final = Corrections(None, Names(settings.redis.prefix), round_trip=nodes.send)
        """For what lies in no cell; where all is one cell, that one."""
        self.in_cells: Final = settings.redis.layout == "partition"
        self.nodes: Final = nodes
        self._catalog = catalog
        self._corrects = corrects
        self._cells: dict[str, Corrections] = {}

    def cell(self, tag: str) -> Corrections:
        """The cell with this tag; empty: the only one."""
        if not tag:
            return self.commands
        if tag not in self._cells:
            names = self.commands.names.cell(tag)
            way = self.nodes.to_cell(names.applied, LANE, corrects=self._corrects)
            self._cells[tag] = Corrections(None, names, round_trip=way)
        return self._cells[tag]

    def of_derived(self, resource: Resource) -> Corrections:
        """The cell of what is derived of a resource."""
        return self.cell(derived_tag(resource) if self.in_cells else "")

    def derived(self, resource: Resource) -> DerivedStore:
        return DerivedStore(self.of_derived(resource), resource.derived_name)

    async def partitions(self, group: str) -> int | None:
        """How many partitions the marks of a watcher group have told; `None`: none has. Asked only where documents
        have cells by partition."""
        return await partition_counts.known(self.commands, group)

    async def of_document(self, resource: Resource, canonical_key: str) -> KeyCell:
        """The cell in which a document lies, as readers find it."""
        if not self.in_cells:
            return KeyCell(self.commands, None)
        group = resource.watcher_group
        if (count := await self.partitions(group)) is None:
            return KeyCell(None, None)
        partition = partition_of(record_key(self._catalog.database, resource.collection, canonical_key), count)
        return KeyCell(self.cell(document_tag(group, count, partition)), partition)


@asynccontextmanager
async def stores(settings: Settings, catalog: Catalog, *, corrects: bool = False) -> AsyncIterator[Stores]:
    """Until the block ends. `corrects`: see `Stores`."""
    patiently = patient(settings.redis)
    nodes = nodes_of(patiently, timeout_ms=patiently.write_timeout_ms)
    try:
        yield Stores(settings, catalog, nodes, corrects=corrects)
    finally:
        with suppress(RedisError, OSError):
            await nodes.aclose()


@dataclass(frozen=True, slots=True)
class DerivedStores:
    """What is derived of one resource, and what it is derived from."""

    settings: Settings
    """Of the resource's watcher group."""
    cell: Corrections
    store: DerivedStore
    mongo: AsyncMongoClient[dict[str, Any]]
    loader: Loader


@asynccontextmanager
async def derived_stores(settings: Settings, catalog: Catalog, resource: Resource) -> AsyncIterator[DerivedStores]:
    """Until the block ends. Raises `Stop` where another release has written what is derived."""
    of = settings_of(settings, resource.watcher_group)
    try:
        async with stores(settings, catalog, corrects=True) as opened, mongo_client(settings.mongodb) as mongo:
            loader = Loader(mongo, catalog.database, settings.mongodb.read_timeout_ms)
            yield DerivedStores(of, opened.of_derived(resource), opened.derived(resource), mongo, loader)
    except UnknownFormat:
        message = f"another release has written what is derived from {resource.name}; use its `neverstale`"
        raise Stop(message) from None
