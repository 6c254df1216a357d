"""Watcher groups, and collections that move between them."""

from tests.faults.rig.sabotage.rules import Patches, replaced, rule


@rule("bounds rest on all groups")
def _all_groups() -> Patches:
    from neverstale.api.freshness.watermark import Evidence, Freshness
    from neverstale.api.reads.l1 import L1

    known: list[Freshness] = []
    look = Freshness.poll

    async def poll(self: Freshness) -> None:
        if self not in known:
            known.append(self)
        await look(self)

    def evidence(self: Freshness) -> Evidence:
        return Evidence(min([one.watermark or 0 for one in known], default=0), self._epoch)

    yield replaced("neverstale.api.freshness.watermark:Freshness.poll", poll)
    yield replaced("neverstale.api.freshness.watermark:Freshness.evidence", evidence)
    yield replaced("neverstale.api.reads.l1:L1.watermark_of", lambda self, _: L1.watermark.__get__(self))


@rule("what joins a group begins without a floor")
def _no_floor() -> Patches:
    """Neither the watcher voids what it begins to watch, nor the consumers what others have skipped."""
    from neverstale.consumers.coverage import Coverages
    from neverstale.consumers.records.batch import Batch

    async def make_up(self: Coverages, batch: Batch) -> None:
        self.made_up = {partition: self._others[partition] for partition in batch.marks if partition in self._others}

    yield replaced("neverstale.streams.translate:Watched.some_floors", lambda *_: [])
    yield replaced("neverstale.consumers.coverage:Coverages.make_up", make_up)
