"""The auditor's life: ask some questions, judge the answers, account for them, and again."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, cycle, groupby
from typing import Final

from neverstale.catalog import Resource
from neverstale.ops.auditor.asking import LANES, Asker
from neverstale.ops.auditor.counts import WINDOWS, About, AuditCounts, Ledger
from neverstale.ops.auditor.judging.drifting import Drifting
from neverstale.ops.auditor.judging.judge import Judge
from neverstale.ops.auditor.judging.judged import Judged
from neverstale.ops.auditor.judging.questions import AuditQuestion
from neverstale.ops.auditor.picks import Picks
from neverstale.ops.auditor.witness import Witness
from neverstale.role import telemetry
from neverstale.role.cancellation import heed
from neverstale.settings import AuditorSettings

log = telemetry.logger(__name__)

STEP_SECONDS: Final = 0.2
BY_THEMSELVES: Final = 10
"""Documents of a step that are asked for one by one, as most readers do; the rest is asked for many at once."""
DERIVED_SHARE: Final = 0.02
"""Of all questions; each takes a read of MongoDB of its own."""
LEAST_DERIVED: Final = 1
LANE_RATE: Final = 1000
"""Questions a second over one lane."""
MOST_STEP: Final = 1000


@dataclass(frozen=True, slots=True)
class _Again:
    due: float
    found: Judged


class Auditor:
    def __init__(
        self,
        settings: AuditorSettings,
        resources: Sequence[Resource],
        asker: Asker,
        judge: Judge,
        picks: Picks,
        witness: Witness,
    ) -> None:
        self.ledger = Ledger()
        self.rate = 0.0
        """Questions a second that it may ask now."""
        self._settings = settings
        self._asker = asker
        self._judge = judge
        self._picks = picks
        self._witness = witness
        self._drifting = Drifting()
        self._again: list[_Again] = []
        self._resources = resources
        self._turn = count()

    async def work(self, stop: asyncio.Event) -> None:
        """Until `stop`. What is derived takes slow reads of MongoDB, which documents do not wait for."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pace(stop, lambda: DERIVED_SHARE, self._derived))
            for lane in range(LANES):
                share = partial(self._share, lane)
                group.create_task(self._pace(stop, share, partial(self._documents, lane)))

    def _share(self, lane: int) -> float:
        """Of all questions. Few are asked over one lane: each reads MongoDB for itself."""
        used = min(LANES, max(1, round(self.rate / LANE_RATE)))
        return (1 - DERIVED_SHARE) / used if lane < used else 0.0

    async def _pace(
        self, stop: asyncio.Event, share: Callable[[], float], step: Callable[[Resource, int], Awaitable[int]]
    ) -> None:
        """Take a step for one resource after the other, each with as many questions as are due."""
        last, owed = time.monotonic(), 0.0
        for resource in cycle(self._resources):
            if stop.is_set():
                return
            began, part = time.monotonic(), share()
            owed = min(owed + (began - last) * self.rate * part, MOST_STEP)
            last = began
            if part:
                try:
                    owed = max(owed - await step(resource, int(owed)), -MOST_STEP)
                except asyncio.CancelledError:  # a client may have cancelled something of its own, and passed it on
                    heed()
                    log.warning("audit_step_cancelled")
            heed()
            await asyncio.sleep(max(0.0, began + STEP_SECONDS - time.monotonic()))

    async def finish(self) -> None:
        """Ask again what still waits for that."""
        while self._again:
            await asyncio.sleep(max(0.0, self._again[0].due - time.monotonic()))
            await self._ask_again()

    async def _documents(self, lane: int, resource: Resource, most: int) -> int:
        """Ask about so many documents at most, and again what is due; returns how many."""
        questions = self._picks.documents(resource, most)
        alone, together = questions[:BY_THEMSELVES], questions[BY_THEMSELVES:]
        await self._one_by_one(alone, lane)
        if together:
            await self._together(together, lane)
        await self._ask_again()
        return len(questions)

    async def _together(self, questions: Sequence[AuditQuestion], lane: int) -> None:
        told = await self._asker.ask_together(questions, lane)
        found = await self._judge.judge(told)
        # What is not judged so may be by a version of its own, which only has what is asked for by itself.
        unclear = [one.told.question for one in found if one.verdict == "undecided"]
        clear = [one for one in found if one.verdict != "undecided"]
        about = questions[0].about
        await self._account(about, clear, len(questions) - len(told))
        await self._one_by_one(unclear[:BY_THEMSELVES], lane)
        self._add(about, AuditCounts(undecided=len(unclear[BY_THEMSELVES:])))

    async def _derived(self, resource: Resource, most: int) -> int:
        """The same of pages, counters and rankings; a little is asked of them however little may be asked."""
        questions = [*await self._picks.derived(resource, max(LEAST_DERIVED, most)), *self._drifting.due()]
        await self._others(questions)
        return len(questions)

    async def _others(self, questions: Sequence[AuditQuestion]) -> None:
        ordered = sorted(questions, key=lambda question: question.source.name)
        for _, some in groupby(ordered, key=lambda question: question.source.name):
            await self._one_by_one(list(some), next(self._turn))

    async def _one_by_one(self, questions: Sequence[AuditQuestion], lane: int) -> None:
        """All about one source."""
        if questions:
            told = await self._asker.ask(questions, lane)
            found = await self._judge.judge(told)
            await self._account(questions[0].about, found, len(questions) - len(told))

    async def _account(self, about: About, found: Sequence[Judged], unanswered: int) -> None:
        counts = AuditCounts(unanswered=unanswered)
        for one in found:
            settled = self._drifting.take(one) if one.told.question.is_figure else one
            if settled is not None:
                await self._count(settled, counts)
        self._add(about, counts)

    async def _count(self, found: Judged, counts: AuditCounts) -> None:
        if found.verdict in ("undecided", "differs"):
            counts.undecided += 1
            return
        counts.checked += 1
        if found.verdict == "late":
            counts.note_age(found.age)
        counts.untrue += found.verdict == "untrue"
        counts.broken += found.broke_its_bound
        if found.wrong:
            self._again.append(_Again(time.monotonic() + self._settings.again_seconds, found))
            await self._witness.saw(found)

    async def _ask_again(self) -> None:
        now = time.monotonic()
        due: dict[tuple[str, str], list[Judged]] = {}
        for one in self._again:
            if one.due <= now:
                due.setdefault(one.found.told.question.name, []).append(one.found)
        self._again = [one for one in self._again if one.due > now]
        for some in due.values():
            last = some[-1].told
            told = await self._asker.ask_again(last.question, last.url)
            judged = await self._judge.judge([told]) if told is not None else []
            if any(one.wrong or one.verdict == "differs" for one in judged):
                self._add(last.question.about, AuditCounts(permanent=len(some)))
                log.error("audit_permanent", path=last.question.path)

    def _add(self, about: About, counts: AuditCounts) -> None:
        self.ledger.add(about, counts, time.time())
        resource, kind = about
        telemetry.AUDIT_CHECKED.labels(resource, kind).inc(counts.checked)
        telemetry.AUDIT_UNDECIDED.labels(resource, kind).inc(counts.undecided)
        for window, stale in zip(WINDOWS, counts.stale, strict=True):
            telemetry.AUDIT_STALE.labels(resource, f"{window:g}").inc(stale)
        for what, number in (("bound", counts.broken), ("untrue", counts.untrue), ("permanent", counts.permanent)):
            telemetry.AUDIT_WRONG.labels(resource, kind, what).inc(number)
