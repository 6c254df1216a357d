"""Applying: what is done with one batch, in the order that the protocol asks for.

1. *distrust*: what unreadable records may have spoken of is invalidated with the batch; marks of terms that nobody
   has held do not count.
2. *topic identity*: if its marks name another topic than the one that was applied before, everything is void; and
   what a consumer of another catalog may have skipped (`neverstale.consumers.coverage`).
3. *invalidate*: `applied` rises, floors rise, entries become stale, in one pipeline, which also says which Redis took
   it.
4. *derive*: lists, counters and rankings follow.
5. *reach*: Redis notes how far the partitions are applied there, and says what it lacks (in the pipeline of 3 if
   there is nothing to derive).
6. *watermarks*: partitions that lack nothing get the watermarks of their marks.
7. *hand over*: leases of what should be fresh again go to the refresher. They run, so this waits for nothing else.
8. *set aside*: unreadable records are dead letters before their offsets are committed. The cache has not waited for
   that.

What fails in 2, 3, 4 or 8 is tried again, for as long as it takes: every step may run twice. Meanwhile nothing is
committed and nothing more is fetched. What fails in 5 or 6 waits for the next batch.
"""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from neverstale.catalog.coverage import Coverage
from neverstale.consumers.coverage import Coverages
from neverstale.consumers.dead_letters import DeadLetters
from neverstale.consumers.records.batch import Batch
from neverstale.consumers.records.doubts import Doubts
from neverstale.consumers.refresh import HeldLease, Refresher
from neverstale.consumers.registers import Registers
from neverstale.consumers.replay import Accounts, Gap
from neverstale.consumers.topic_identity import NOTHING, TopicIdentity
from neverstale.errors import Outage, Retry
from neverstale.redis.corrections import Corrections, Invalidated
from neverstale.role import telemetry, traces
from neverstale.role.log_repetitions import Seldom
from neverstale.role.retry import Unwanted, Wanted, until_done
from neverstale.role.service import Health
from neverstale.versions import Version

log = telemetry.logger(__name__)

OUTCOMES: Final = {
    "-": "missing",
    "n": "newer",
    "w": "leased",
    "s": "stale_already",
    "d": "made_stale",
    "r": "to_refresh",
    "x": "deleted",
}
"""What `invalidate.lua` answers for an entry."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch."""

    applied: bool
    """False: it was not wanted any more before it was done, and comes again."""
    gaps: Mapping[int, Gap] = field(default_factory=dict)
    """Partition -> what the Redis that took it lacks, which has to be applied again before what comes next."""


Apply: TypeAlias = Callable[[Batch, Wanted], Awaitable[Outcome]]
"""Apply a batch while it is wanted; see `Applier.apply`."""
Derive: TypeAlias = Callable[[Batch, str], Awaitable[None]]
"""Bring what is derived from documents up to a batch; see `neverstale.consumers.derived.derive.Deriver.apply`."""


@dataclass(frozen=True, slots=True)
class Section:
    """What an applier has to know about its surroundings."""

    group: str
    collections: tuple[str, ...]
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Steps:
    """What does the steps that are more than one call."""

    doubts: Doubts
    topics: TopicIdentity
    coverages: Coverages
    registers: Registers
    derive: Derive
    accounts: Accounts
    refresher: Refresher
    letters: DeadLetters


class Applier:
    """Applies batches, one after the other. Keeps nothing of one for the next."""

    def __init__(
        self,
        cache: Corrections,
        steps: Steps,
        section: Section,
        health: Health,
        clock: Callable[[], float] = time.time,
        *,
        waits: "Callable[[str, Health], Waits] | None" = None,
        voids_alone: bool = False,
    ) -> None:
        """`waits`: what is said while a step waits. `voids_alone`: where this cell does not know what it lacks, it
        alone becomes void."""
        self._voids_alone = voids_alone
        self._cache = cache
        self._do = steps
        self._section = section
        self._health = health
        self._clock = clock
        waits = waits or Waits
        self._apply_waits = waits("apply_waits", health)
        self._derive_waits = waits("derive_waits", health)

    async def apply(self, batch: Batch, wanted: Wanted) -> Outcome:
        """Apply it, however often that must be tried."""
        tracer = traces.tracer()
        if tracer is None:
            return await self._apply(batch, wanted)
        context, links = traces.origin_of(mark.trace for mark in batch.marks.values() if mark.trace is not None)
        told = {"neverstale.records": batch.records, "neverstale.changes": batch.changes}
        with tracer.start_as_current_span("apply", context, links=links, attributes=told) as span:
            outcome = await self._apply(batch, wanted)
            span.set_attribute("neverstale.applied", outcome.applied)
        return outcome

    async def _apply(self, batch: Batch, wanted: Wanted) -> Outcome:
        gaps: Mapping[int, Gap] = {}
        try:
            await self._do.doubts.settle(batch)
            if not batch.asks_nothing:
                gaps = await self.correct(batch, wanted)
            count(batch)
            await self._do.letters.put(batch.poison, wanted)
        except Unwanted:
            return Outcome(applied=False)
        return Outcome(applied=True, gaps=gaps)

    async def correct(self, batch: Batch, wanted: Wanted) -> Mapping[int, Gap]:
        """Have this Redis follow a batch that is settled; returns what it lacks from before the batch."""
        do, started = self._do, time.perf_counter()
        named = NOTHING
        if batch.marks:
            named = await until_done(partial(do.topics.compare, batch), wanted, self._apply_waits)
            await until_done(partial(do.coverages.make_up, batch), wanted, self._apply_waits)
        done = await until_done(partial(self._invalidate, batch), wanted, self._apply_waits)
        do.registers.note(done)
        if batch.derives:
            await until_done(partial(do.derive, batch, done.identity), wanted, self._derive_waits)
        reach = await do.accounts.reach(batch, done)
        if self._voids_alone and any(gap.since is None for gap in reach.gaps.values()):
            log.warning("cell_void", cell=self._cache.names.tag, reason="it does not know what it lacks")
            batch.forget |= set(self._section.collections)
            return await self.correct(batch, wanted)
        await self._set_watermarks(batch, done, reach.complete)
        self._hand_over(batch, done)
        self._measure(batch, done, time.perf_counter() - started)
        await do.topics.note(named)
        return reach.gaps

    async def _invalidate(self, batch: Batch) -> Invalidated:
        floors = batch.floors
        if batch.marks:
            # Raising a register to nothing raises nothing, but tells whether it is known.
            floors = dict.fromkeys(self._section.collections, 0) | floors
        done = await self._cache.invalidate(
            batch.highest,
            batch.keys,
            batch.versions_and_refresh,
            floors,
            self._section.lease_ms,
            batch.forget,
            self._do.accounts.account(batch),
            whole=not batch.derives,
        )
        self._health.ok("redis")
        return done

    async def _set_watermarks(self, batch: Batch, done: Invalidated, complete: Collection[int]) -> None:
        """Claim what the marks say, for the Redis that took this batch and lacks nothing from before it.

        That Redis named itself before it took the batch. Should another one have taken over since, the claim is
        written there under the old name, and readers see that it is not about the Redis they read.
        """
        told = {partition: mark for partition, mark in batch.marks.items() if partition in complete}
        if not told:
            return
        partitions = max(max(mark.partitions, partition + 1) for partition, mark in told.items())
        coverages = self._do.coverages
        by_coverage: defaultdict[Coverage, dict[int, tuple[Version, int]]] = defaultdict(dict)
        for partition, mark in told.items():
            by_coverage[coverages.of(mark)][partition] = mark.version, mark.wall_ms
        try:
            for coverage, marks in by_coverage.items():
                others = await self._cache.set_watermarks(
                    self._section.group, done.identity, partitions, marks, coverage, coverages.made_up
                )
                coverages.found(marks, others)
        except Outage as outage:
            self._health.wrong("redis", outage.reason)

    def _hand_over(self, batch: Batch, done: Invalidated) -> None:
        for span in batch.spans:
            prefix = len(self._cache.names.entry_prefix(span.resource.name))
            leases = [
                HeldLease(batch.keys[at], batch.keys[at][prefix:].decode(), done.token, batch.highest)
                for at in _positions(done.letters, "r", span.start, span.end)
            ]
            if leases:
                self._do.refresher.offer(span.resource, leases)

    def _measure(self, batch: Batch, done: Invalidated, seconds: float) -> None:
        telemetry.APPLY_SECONDS.observe(seconds)
        for letter in set(done.letters):
            telemetry.INVALIDATIONS.labels(OUTCOMES[letter]).inc(done.letters.count(letter))
        if batch.oldest_wall_ms is not None:
            telemetry.APPLIED_LAG.observe(max(0.0, self._clock() - batch.oldest_wall_ms / 1000))


def count(batch: Batch) -> None:
    """Tell the metrics that a batch is applied."""
    telemetry.BATCH_APPLIED.observe(batch.records)
    for kind, records in _kinds(batch):
        if records:
            telemetry.RECORDS_APPLIED.labels(kind).inc(records)
    for reason, records in batch.skipped.items():
        telemetry.RECORDS_SKIPPED.labels(reason).inc(records)


def _kinds(batch: Batch) -> tuple[tuple[str, int], ...]:
    return (
        ("change", batch.changes),
        ("floor", batch.floor_records),
        ("mark", batch.mark_records),
        ("touch", batch.touches),
        ("rebuilt", len(batch.rebuilt)),
    )


class Waits:
    """Says that a step waits for a server: in health each time, in the log once in a while."""

    def __init__(self, event: str, health: Health) -> None:
        self._event = event
        self._health = health
        self._seldom = Seldom()

    def __call__(self, error: Retry) -> None:
        if isinstance(error, Outage):
            self._health.wrong(error.server, error.reason)
            if times := self._seldom.due():
                log.warning(self._event, reason=str(error), times=times)


def _positions(letters: str, letter: str, start: int, end: int) -> Iterator[int]:
    at = letters.find(letter, start, end)
    while at >= 0:
        yield at
        at = letters.find(letter, at + 1, end)
