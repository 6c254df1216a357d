"""Applying to many cells: each partition's batch to the cell of its documents, and to every resource's derived cell.

To an `Applier` a cell is a Redis. It has registers, an account and watermarks of its own, so a cell that cannot be
reached need not hold up the others: it is *left behind*. What it then lacks it says itself, when it is back, as a
Redis does that took over (`neverstale.consumers.replay`); and its watermark stands still until it has that.

Which cell a partition's documents lie in depends on the number of partitions. Marks tell it. Until one has, those
documents' cell is left behind, too: nobody guesses.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final

from neverstale.catalog import Resource
from neverstale.consumers.apply import Applier, Outcome, Waits, count
from neverstale.consumers.dead_letters import DeadLetters
from neverstale.consumers.records.batch import Batch
from neverstale.consumers.records.doubts import Doubts
from neverstale.consumers.replay import Accounts, Gap
from neverstale.derived.redis_names import derived_tag
from neverstale.errors import Outage, Retry
from neverstale.redis import partition_counts
from neverstale.redis.cache import Fill
from neverstale.redis.cells import document_tag
from neverstale.redis.commands import Commands
from neverstale.redis.corrections import Corrections
from neverstale.role import telemetry
from neverstale.role.retry import Unwanted, Wanted
from neverstale.role.service import Health

log = telemetry.logger(__name__)

PATIENCE_SECONDS: Final = 1.0
"""A cell that cannot be reached holds up the others of a batch for so long,"""
AGAIN_SECONDS: Final = 1.0
"""and is then left out of all batches until it has answered, which is tried so often."""
ANSWER_SECONDS: Final = 0.25
NOTE_SECONDS: Final = 1.0
"""The number of partitions is told so often, and whenever it changes."""


class LeftBehind(Exception):
    """A cell cannot be reached; it will lack the batch."""


class Impatient(Waits):
    """Gives up waiting for Redis. For MongoDB it waits as long as it takes."""

    def __init__(self, event: str, health: Health) -> None:
        super().__init__(event, health)
        self.until = 0.0

    def __call__(self, error: Retry) -> None:
        super().__call__(error)
        if isinstance(error, Outage) and error.server == "redis" and time.monotonic() > self.until:
            raise LeftBehind(error.reason)


@dataclass(slots=True, eq=False)
class Cell:
    """One cell as this consumer writes it. `resource`: whose derived data it holds; `None`: it holds documents."""

    cache: Corrections
    applier: Applier
    accounts: Accounts
    waits: Sequence[Impatient]
    resource: str | None
    collections: Collection[str]
    away_until: float = 0.0
    away: bool = False
    cut: int = field(init=False)
    """Where in the name of an entry the cell's tag belongs."""

    def __post_init__(self) -> None:
        self.cut = len(self.cache.names.prefix)

    async def correct(self, batch: Batch, wanted: Wanted) -> Mapping[int, Gap]:
        """Apply what concerns this cell, one batch after the other. Returns what it lacks from before; nothing if it
        is left behind."""
        if self.away and not await self._is_back():
            return {}
        for waits in self.waits:
            waits.until = time.monotonic() + (0.0 if self.away else PATIENCE_SECONDS)
        try:
            gaps = await self.applier.correct(self._own(batch), wanted)
        except LeftBehind as reason:
            if not self.away:
                log.warning("cell_left_behind", cell=self.cache.names.tag, reason=str(reason))
            self.away, self.away_until = True, time.monotonic() + AGAIN_SECONDS
            return {}
        if self.away:
            log.info("cell_is_back", cell=self.cache.names.tag)
        self.away = False
        return gaps

    async def _is_back(self) -> bool:
        if time.monotonic() < self.away_until:
            return False
        self.away_until = time.monotonic() + AGAIN_SECONDS
        return await self.answers()

    async def answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.cache.ping()
        except (Outage, TimeoutError):
            return False
        return True

    def _own(self, batch: Batch) -> Batch:
        """A copy, since steps add to what is void in this cell."""
        own = copy(batch)
        own.forget = set(batch.forget)
        if self.resource is None:
            base = self.cache.names.base.encode()
            own.keys = [base + key[self.cut :] for key in batch.keys]
            own.told, own.rebuilt, own.lost = {}, [], {}
            return own
        own.keys, own.versions_and_refresh, own.spans, own.oldest_wall_ms = [], [], [], None
        own.told = {at: said for at, said in batch.told.items() if at[0] in self.collections}
        own.rebuilt = [told for told in batch.rebuilt if told[1].resource == self.resource]
        own.floors = {name: at for name, at in batch.floors.items() if name in self.collections}
        own.lost = {name: at for name, at in batch.lost.items() if name in self.collections}
        own.forget &= set(self.collections)
        return own


class Cells:
    """The cells that this consumer has met. `open_cell` makes one: of a tag, and of whose derived data it holds."""

    def __init__(self, commands: Commands, watchers: str, open_cell: Callable[[str, str | None], Cell]) -> None:
        """`commands`: for what lies in no cell."""
        self._commands = commands
        self._watchers = watchers
        self._open = open_cell
        self._cells: dict[str, Cell] = {}
        self._counts: dict[int, int] = {}
        self._noted: dict[int, tuple[int, float]] = {}
        self._note_not_before = 0.0
        self.derived: list[Cell] = []

    def open_derived(self, resources: Iterable[Resource]) -> None:
        """Open the cells of what is derived from these."""
        self.derived = [self._cell(derived_tag(one), one.name) for one in resources]

    def _cell(self, tag: str, resource: str | None = None) -> Cell:
        found = self._cells.get(tag)
        if found is None:
            found = self._cells[tag] = self._open(tag, resource)
        return found

    async def of_documents(self, partition: int, batch: Batch) -> Cell | None:
        """The cell of a partition's documents; `None`: it is not known which one that is."""
        if (mark := batch.marks.get(partition)) is not None:
            self._counts[partition] = max(mark.partitions, partition + 1)
        elif partition not in self._counts:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    self._counts |= await partition_counts.told_by(self._commands, self._watchers, [partition])
            except (Outage, TimeoutError):
                return None  # the cell will say that it lacks this batch
        if (partitions := self._counts.get(partition)) is None or partition >= partitions:
            return None
        return self._cell(document_tag(self._watchers, partitions, partition))

    async def note(self, parts: Mapping[int, Batch]) -> None:
        """These are applied: readers may know of the numbers of partitions that their marks have told. Whoever holds
        these numbers may be away, and holds up no cell for that."""
        now, told = time.monotonic(), {}
        for partition, part in parts.items():
            if (mark := part.marks.get(partition)) is None:
                continue
            partitions = max(mark.partitions, partition + 1)
            before, at = self._noted.get(partition, (0, 0.0))
            if before != partitions or now - at >= NOTE_SECONDS:
                told[partition] = partitions, mark.version
        if not told or now < self._note_not_before:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await partition_counts.note(self._commands, self._watchers, told)
        except (Outage, TimeoutError):
            self._note_not_before = time.monotonic() + AGAIN_SECONDS
            return
        self._noted |= {partition: (partitions, now) for partition, (partitions, _) in told.items()}

    def _of_partitions(self, partitions: Collection[int]) -> list[Cell]:
        tags = [document_tag(self._watchers, self._counts[one], one) for one in partitions if one in self._counts]
        return [self._cells[tag] for tag in tags if tag in self._cells] + self.derived

    async def others_answer(self) -> bool:
        """Whether a cell that is not left behind answers, also one that a batch does not concern: then it is not all
        of Redis that is away."""
        for cell in self._of_partitions(list(self._counts)):
            if not cell.away and await cell.answers():
                return True
        return False

    # --- as `Accounts` and `Cache` are asked, for all cells

    async def held(self, partitions: Collection[int]) -> dict[int, dict[int, int]]:
        """How far each cell says that partitions are applied. One that is left behind is not waited for."""
        cells = self._of_partitions(partitions)
        asked = {at: cell for at, cell in enumerate(cells) if not cell.away}
        found = await asyncio.gather(*(cell.accounts.held(partitions) for cell in asked.values()))
        return dict(zip(asked, found, strict=True))

    async def doubt(self, held: Mapping[int, Mapping[int, int]], ends: Mapping[int, int]) -> None:
        """Nothing is applied beyond the end of a partition."""
        cells = self._of_partitions(list(ends))
        await asyncio.gather(*(cell.accounts.doubt(held.get(at, {}), ends) for at, cell in enumerate(cells)))

    async def fill(self, fills: Sequence[Fill]) -> list[str]:
        """As `Cache.fill`, of entries of any cells."""
        by_tag: dict[str, list[int]] = {}
        for at, fill in enumerate(fills):
            by_tag.setdefault(_tag_of(fill.key), []).append(at)
        results = ["missing"] * len(fills)
        for tag, places in by_tag.items():
            answers = await self._cells[tag].cache.fill([fills[at] for at in places])
            for at, answer in zip(places, answers, strict=True):
                results[at] = answer
        return results

    async def delete(self, keys: Sequence[bytes]) -> None:
        by_tag: dict[str, list[bytes]] = {}
        for key in keys:
            by_tag.setdefault(_tag_of(key), []).append(key)
        for tag, some in by_tag.items():
            await self._cells[tag].cache.delete(some)


def _tag_of(key: bytes) -> str:
    return key.partition(b"{")[2].partition(b"}")[0].decode()


class CellsApplier:
    """Applies what was fetched: to each partition's documents, and to all that is derived, side by side."""

    def __init__(self, cells: Cells, doubts: Doubts, letters: DeadLetters) -> None:
        self._cells = cells
        self._doubts = doubts
        self._letters = letters

    async def apply(self, batch: Batch, wanted: Wanted) -> Outcome:
        """See `Applier.apply`."""
        for partition, part in batch.parts.items():
            part.begins = {partition: batch.begins[partition]} if partition in batch.begins else {}
            await self._doubts.settle(part)
        gaps: dict[int, Gap] = {}
        try:
            if not batch.asks_nothing:
                gaps = await self._correct(batch, wanted)
            await self._cells.note(batch.parts)
            for part in batch.parts.values():
                count(part)
                await self._letters.put(part.poison, wanted)
        except Unwanted:
            return Outcome(applied=False)
        return Outcome(applied=True, gaps=gaps)

    async def _correct(self, batch: Batch, wanted: Wanted) -> dict[int, Gap]:
        """What any cell lacks from before the batch. While none can be reached, nobody goes on without them."""
        while True:
            found = [(await self._cells.of_documents(at, part), part) for at, part in batch.parts.items()]
            told = [(cell, part) for cell, part in found if cell is not None]
            whole = _merged(batch)
            told += [(cell, whole) for cell in self._cells.derived]
            gaps = _widest(await _all(cell.correct(part, wanted) for cell, part in told))
            if not told or not all(cell.away for cell, _ in told) or await self._cells.others_answer():
                return gaps
            await wanted.pause(AGAIN_SECONDS / 2)


async def _all(corrections: Iterable[Coroutine[Any, Any, Mapping[int, Gap]]]) -> list[Mapping[int, Gap]]:
    """All have ended before one that failed is told of: nothing is under way when the batch is tried again."""
    found = await asyncio.gather(*corrections, return_exceptions=True)
    for outcome in found:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in found if not isinstance(outcome, BaseException)]


def _merged(batch: Batch) -> Batch:
    """What the parts tell those who are told of all of them. Nobody there has entries of documents."""
    whole = Batch(begins=dict(batch.begins), offsets=dict(batch.offsets))
    for part in batch.parts.values():
        whole.highest = max(whole.highest, part.highest)
        for name in part.floors:
            whole.floors[name] = max(part.floors[name], whole.floors.get(name, 0))
        for name in part.lost:
            whole.lost[name] = max(part.lost[name], whole.lost.get(name, 0))
        whole.forget |= part.forget
        whole.marks |= part.marks
        whole.told |= part.told
        whole.rebuilt += part.rebuilt
    return whole


def _widest(lacking: Iterable[Mapping[int, Gap]]) -> dict[int, Gap]:
    """What has to be applied again so that no cell lacks anything."""
    gaps: dict[int, Gap] = {}
    for found in lacking:
        for partition, gap in found.items():
            held = gaps.get(partition)
            if held is None or (gap.since is not None and (held.since is None or gap.since < held.since)):
                gaps[partition] = gap
    return gaps
