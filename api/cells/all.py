"""All cells of one watcher group, as one process reads them: opened when they are known of, and let go."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import NoReturn

from neverstale.api.cells.channel import CellChannel
from neverstale.api.cells.counted import PartitionCount
from neverstale.api.cells.documents import DocumentsInCells
from neverstale.api.cells.freshness import CellHealth
from neverstale.api.cells.looks import LANE as LOOKS
from neverstale.api.cells.looks import Looks
from neverstale.api.cells.shares import FeedsShare, L1Share, SharedFeeds, SharedL1
from neverstale.api.cells.together import LANE, CellReader, Together
from neverstale.api.derived.generations import Known
from neverstale.api.derived.grouped import GroupedSource
from neverstale.api.derived.sources import Sources, by_name, grouped_of
from neverstale.api.freshness.groups import GroupedFreshness
from neverstale.api.freshness.watermark import Freshness
from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.read_counts import ReadCounts
from neverstale.api.reads.reader import Reader
from neverstale.api.reads.source import CachedSource, DocumentSource
from neverstale.api.surroundings import ReadSurroundings
from neverstale.api.web.paths import PREFIX
from neverstale.catalog import Resource
from neverstale.derived.redis_names import derived_tag
from neverstale.derived.store import DerivedStore
from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.redis.cache import Cache
from neverstale.redis.cells import document_tag
from neverstale.redis.commands import Commands
from neverstale.redis.nodes import Nodes
from neverstale.redis.wire import Vouched
from neverstale.role.tasks import start
from neverstale.watcher_groups import WatcherGroup


@dataclass(slots=True, eq=False)
class ReadCell:
    """One cell as the API reads it."""

    names: Names
    health: CellHealth
    freshness: Freshness
    grouped: GroupedFreshness
    vouched: Vouched
    """Whether a server may answer for the cell now."""
    hits: Cache
    fills: Cache
    breaker: Breaker
    l1: L1Share
    feeds: FeedsShare | None
    channel: CellChannel | None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    closed: bool = False

    @property
    def name(self) -> bytes:
        """One of its own."""
        return self.names.applied


class AllCells:
    """Opens the cells of what is derived at once, those of documents when the number of partitions is known."""

    def __init__(
        self,
        ours: ReadSurroundings,
        nodes: Nodes,
        of: WatcherGroup,
        commands: Commands,
        read_counts: ReadCounts,
        l1: SharedL1,
        feeds: SharedFeeds,
        readers: dict[bytes, Reader],
        together: Together,
    ) -> None:
        """`commands`: for what lies in no cell. `readers`: of all watcher groups, each under its cell's tag."""
        self._together = together
        self._asked = asyncio.Event()
        """Somebody reads what lies in these cells."""
        self._ours = ours
        self._nodes = nodes
        self._catalog = of.catalog
        self._of = of
        self._read_counts = read_counts
        self._l1 = l1
        self._feeds = feeds
        self._new: asyncio.Queue[ReadCell] = asyncio.Queue()
        self._readers = readers
        self._documents: dict[int, ReadCell] = {}
        """By partition."""
        self.count = PartitionCount(commands, of.name, self._recount)
        self._commands = commands
        self._front = {name: self._front_of(one) for name, one in self._catalog.resources.items()}
        self._derived = {
            name: self._open(derived_tag(resource), None)
            for name, resource in self._catalog.resources.items()
            if resource.derived
        }
        self.known = {name: self._known(name, cell) for name, cell in self._derived.items()}
        self.sources = self._sources()
        self.figures = {
            self.known[name].names.resource: ours.figures(cell.fills, cell.grouped, cell.breaker)
            for name, cell in self._derived.items()
        }
        for name, cell in self._derived.items():
            own = [one for one in self.sources if not isinstance(one, DocumentSource) and _resource_of(one) == name]
            self._read(cell, own)

    @property
    def group(self) -> str:
        """The name of the watcher group."""
        return self._of.name

    def freshness(self) -> list[Freshness]:
        """Of every cell that is read now; none while it is not known which ones there are."""
        return [cell.freshness for cell in self._cells()] if self._documents else []

    async def keep(self) -> NoReturn:
        """Keep what is known of every cell current, until cancelled."""
        looks = Looks(self._nodes, self._cells, self._asked, self._ours.settings.api.freshness_interval_ms)
        async with asyncio.TaskGroup() as group:
            start(group, looks.keep(group), "watermarks")
            for cell in self._cells():
                self._live(group, cell)
            while True:
                self._live(group, await self._new.get())
        raise AssertionError("it never ends")

    def _live(self, group: asyncio.TaskGroup, cell: ReadCell) -> None:
        if cell.closed or (cell.tasks and not all(task.done() for task in cell.tasks)):
            return
        if cell.channel is not None:
            cell.tasks = [start(group, cell.channel.listen(), f"cell-{cell.names.tag}")]

    def _cells(self) -> Iterator[ReadCell]:
        yield from self._derived.values()
        yield from self._documents.values()

    def _recount(self, partitions: int) -> None:
        """Documents lie elsewhere now."""
        for cell in self._documents.values():
            self._close(cell)
        self._documents = {}
        for partition in range(partitions):
            cell = self._open(document_tag(self._of.name, partitions, partition), partition)
            self._documents[partition] = cell
            resources = self._catalog.resources
            counts = self._read_counts
            sources = [DocumentSource(one, cell.hits, counts, _path(one)) for one in resources.values()]
            self._read(
                cell,
                sources,
                partial(CellReader, together=self._together, name=cell.name, vouched=cell.vouched),
            )
            self._new.put_nowait(cell)

    def _close(self, cell: ReadCell) -> None:
        cell.closed = True
        for task in cell.tasks:
            task.cancel()
        cell.l1.void()
        cell.health.forget()
        if cell.feeds is not None:
            cell.feeds.void()
            self._feeds.drop(cell.feeds)
        self._readers.pop(cell.names.tag.encode(), None)

    def _open(self, tag: str, partition: int | None) -> ReadCell:
        ours, names = self._ours, self._commands.names.cell(tag)
        looks = self._cache(names, LOOKS, lambda identity: True)

        async def adopt() -> None:
            with suppress(Outage):
                freshness.opened(await looks.identity())

        health = CellHealth(ours.health, ours.troubles, tag)
        freshness = Freshness(
            looks,
            self._of.settings.kafka.group,
            ours.marks,
            health,
            adopt,
            self._catalog,
            self._of.name,
            partition,
            tells_ages=partition is not None,
            asked=self._asked,
        )

        grouped = GroupedFreshness(self._catalog, {self._of.name: freshness}, ours.marks)

        def vouched(identity: str) -> bool:
            return identity == freshness.identity

        hits, fills = (self._cache(names, lane, vouched) for lane in (LANE, "fills"))
        l1, api = self._l1.share(), ours.settings.api
        feeds = channel = None
        if api.l1_bytes or ours.settings.live.streams:
            feeds = self._feeds.share()
            channel = CellChannel(
                self._nodes,
                names,
                l1,
                grouped,
                api.channel_silence_ms / 1000,
                ours.damage,
                self._front,
                feeds,
                partition,
            )
        return ReadCell(names, health, freshness, grouped, vouched, hits, fills, ours.breaker(), l1, feeds, channel)

    def _front_of(self, resource: Resource) -> DocumentsInCells:
        return DocumentsInCells(
            resource,
            Cache(None, self._commands.names, round_trip=self._nodes.send, damage=self._ours.damage),
            self._read_counts,
            _path(resource),
            database=self._catalog.database,
            watchers=self._of.name,
            partitions=self.count,
        )

    def _cache(self, names: Names, lane: str, vouched: Callable[[str], bool]) -> Cache:
        way = self._nodes.to_cell(names.applied, lane, vouched)
        return Cache(None, names, round_trip=way, damage=self._ours.damage)

    def _known(self, name: str, cell: ReadCell) -> Known:
        store = DerivedStore(cell.fills, self._catalog.resources[name].derived_name)
        return Known(store, lambda: cell.freshness.identity)

    def _sources(self) -> Sources:
        secret = self._ours.secret
        derived = [one for one in self._catalog.resources.values() if one.derived]
        return Sources(
            self._front,
            by_name(grouped_of(one, self._derived[one.name].hits, self.known[one.name], secret) for one in derived),
        )

    def _read(self, cell: ReadCell, sources: Sequence[CachedSource], made: Callable[..., Reader] = Reader) -> None:
        """Has a cell read."""
        ours = self._ours
        self._readers[cell.names.tag.encode()] = made(
            cell.fills,
            ours.loads,
            cell.grouped,
            cell.breaker,
            ours.settings.api,
            ours.tasks,
            Random(),
            cell.l1,
            sources,
        )


def _path(resource: Resource) -> str:
    return f"{PREFIX}{resource.name}/"


def _resource_of(source: CachedSource) -> str:
    assert isinstance(source, GroupedSource)
    return source.resource.name
