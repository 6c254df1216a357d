"""Coverage of partitions: what was applied by consumers of another catalog is made up for.

A consumer skips what its own catalog does not show, and knows no entries of resources that it does not declare. So
every watermark says what it covers (`neverstale.catalog.coverage`). A partition that was applied last with another
coverage may lack corrections of what is ours and not theirs: before it gets a watermark of ours, all of that is void.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from neverstale.catalog import Catalog
from neverstale.catalog.coverage import DERIVED, Coverage, lacks
from neverstale.consumers.records.batch import Batch
from neverstale.kafka.events import Mark
from neverstale.redis.corrections import Corrections
from neverstale.role import telemetry

log = telemetry.logger(__name__)

MOST_KNOWN: Final = 64
"""Coverages that are kept ready: one for each set of watched collections."""


class Coverages:
    """What one consumer covers, and which partitions it has yet to make up for. `group`: its consumer group."""

    def __init__(self, cache: Corrections, group: str, catalog: Catalog) -> None:
        self._cache = cache
        self._group = group
        self._catalog = catalog
        self._known: dict[tuple[str, ...] | None, Coverage] = {}
        self._others: dict[int, str] = {}
        """Partition -> digest of the coverage that somebody else has applied it with."""
        self.made_up: Mapping[int, str] = {}
        """Those of them for which the batch that is applied now makes up."""

    def of(self, mark: Mark) -> Coverage:
        """What is covered up to a mark: our catalog, as far as its watcher tells of it."""
        found = self._known.get(mark.collections)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[mark.collections] = Coverage.of(self._catalog, mark.collections)
        return found

    async def make_up(self, batch: Batch) -> None:
        """Have a batch void what others may have skipped in the partitions that it has marks of. Raises `Outage`."""
        self.made_up = {partition: self._others[partition] for partition in batch.marks if partition in self._others}
        if not self.made_up:
            return
        texts = await self._cache.coverages(self._group, sorted(set(self.made_up.values())))
        lacking = {name.removesuffix(DERIVED) for text in texts.values() for name in lacks(self._catalog, text)}
        void = {self._catalog.resources[name].collection for name in lacking}
        log.warning("applied_with_another_catalog", partitions=sorted(self.made_up), void=sorted(void))
        batch.forget |= void

    def found(self, told: Iterable[int], others: Mapping[int, str]) -> None:
        """Watermarks of these partitions were offered; `others` of them were applied by somebody else."""
        for partition in told:
            self._others.pop(partition, None)
        self._others |= others
