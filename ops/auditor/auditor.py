"""The auditor's life: ask some questions, judge the answers, account for them, and again."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, groupby
from typing import Final

from neverstale.catalog import Resource
from neverstale.ops.auditor.asking import TOGETHER, Asker
from neverstale.ops.auditor.counts import WINDOWS, About, AuditCounts, Ledger
from neverstale.ops.auditor.feed import Feed
from neverstale.ops.auditor.judging.drifting import Drifting
from neverstale.ops.auditor.judging.judge import Judge, Judged
from neverstale.ops.auditor.judging.questions import AuditQuestion
from neverstale.ops.auditor.picks import Picks
from neverstale.ops.auditor.witness import Witness
from neverstale.role import telemetry
from neverstale.settings import AuditorSettings

log = telemetry.logger(__name__)

STEP_SECONDS: Final = 0.2
BY_THEMSELVES: Final = 40
"""Documents of a step that are asked for one by one, as most readers do; the rest is asked for many at once."""
DERIVED_SHARE: Final = 0.02
"""Of all questions; each takes a read of MongoDB of its own."""
LEAST_DERIVED: Final = 1
TOLD_SECONDS: Final = 0.3
"""Within this the feed has told of a drop."""
MOST_STEP: Final = 2000


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
        feed: Feed,
    ) -> None:
        self.ledger = Ledger()
        self.rate = 0.0
        """Questions a second that it may ask now."""
        self._settings = settings
        self._asker = asker
        self._judge = judge
        self._picks = picks
        self._witness = witness
        self._feed = feed
        self._drifting = Drifting()
        self._again: list[_Again] = []
        self._turns = cycle(resources)
        self._owed = 0.0

    async def work(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        last = time.monotonic()
        while not stop.is_set():
            began = time.monotonic()
            self._owed = min(self._owed + (began - last) * self.rate, MOST_STEP)
            last = began
            self._owed -= await self.step(int(self._owed))
            await asyncio.sleep(max(0.0, began + STEP_SECONDS - time.monotonic()))

    async def step(self, questions: int) -> int:
        """Ask at most so many questions about one resource, and what is due to be asked again; returns how many."""
        resource = next(self._turns)
        documents = self._picks.documents(resource, questions)
        await self._documents(documents)
        few = max(LEAST_DERIVED, round(questions * DERIVED_SHARE))
        derived = [*await self._picks.derived(resource, few), *self._drifting.due()]
        await self._others(derived)
        await self._ask_again()
        return len(documents) + len(derived)

    async def finish(self) -> None:
        """Ask again what still waits for that."""
        while self._again:
            await asyncio.sleep(max(0.0, self._again[0].due - time.monotonic()))
            await self._ask_again()

    async def _documents(self, questions: Sequence[AuditQuestion]) -> None:
        alone, together = questions[:BY_THEMSELVES], questions[BY_THEMSELVES:]
        await self._one_by_one(alone)
        for start in range(0, len(together), TOGETHER):
            some = together[start : start + TOGETHER]
            found = await self._judge.judge(await self._asker.ask_together(some))
            # A version of its own, without which there is no judgement, has only what is asked for by itself.
            unclear = [one for one in found if one.verdict == "undecided"]
            clear = [one for one in found if one.verdict != "undecided"]
            await self._account(some[0].about, clear, len(some) - len(found))
            await self._one_by_one([one.told.question for one in unclear])

    async def _others(self, questions: Sequence[AuditQuestion]) -> None:
        ordered = sorted(questions, key=lambda question: question.source.name)
        for _, some in groupby(ordered, key=lambda question: question.source.name):
            await self._one_by_one(list(some))

    async def _one_by_one(self, questions: Sequence[AuditQuestion]) -> None:
        """All about one source."""
        if questions:
            told = await self._asker.ask(questions)
            found = await self._judge.judge(told)
            await self._account(questions[0].about, found, len(questions) - len(told))

    async def _account(self, about: About, found: Sequence[Judged], unanswered: int) -> None:
        counts = AuditCounts(unanswered=unanswered)
        for one in found:
            settled = self._drifting.take(one) if about[1] in ("counters", "rankings") else one
            if settled is not None:
                await self._count(settled, counts)
        self._add(about, counts)

    async def _count(self, found: Judged, counts: AuditCounts) -> None:
        if found.wrong and await self._lost_its_past(found):
            counts.undecided += 1
            return
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

    async def _lost_its_past(self, found: Judged) -> bool:
        """Whether the collection was dropped or renamed since the version of the answer: then it cannot be judged."""
        await asyncio.sleep(TOLD_SECONDS)
        return self._feed.gone_at(found.told.question.source.collection) > (found.told.version or 0)

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
