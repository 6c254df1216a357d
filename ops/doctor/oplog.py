"""How long a watcher may be away before its position is overwritten, and everything cached is void."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pymongo import AsyncMongoClient

from neverstale.catalog import Catalog
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.mongodb.oplog import end_of_oplog
from neverstale.ops.check.findings import Finding, Wrong, about
from neverstale.ops.check.paste import mongosh
from neverstale.ops.doctor.allowed import allowed
from neverstale.ops.status import run
from neverstale.settings import Settings
from neverstale.streams.checkpoint import Checkpoint
from neverstale.versions import Version
from neverstale.watcher_groups import settings_of

WANTED_HOURS: Final = 24.0
"""A watcher that fails on a Friday evening is seen on Saturday."""
LEAST_HOURS: Final = 1.0
GROWTH: Final = 1.5
LEAST_MB: Final = 990
"""MongoDB takes no smaller oplog (`replSetResizeOplog`)."""
MOST_MB: Final = 1 << 30

_say = about("oplog", "mongodb")


@dataclass(frozen=True, slots=True)
class OplogFacts:
    first: Version
    last: Version
    used_bytes: int
    most_bytes: int

    @property
    def held_seconds(self) -> float:
        return max((self.last >> 32) - (self.first >> 32), 1)

    @property
    def window_seconds(self) -> float:
        """How far it reaches back once it is full, at the rate of what it holds."""
        return self.held_seconds * max(self.most_bytes / max(self.used_bytes, 1), 1.0)


async def look_at_oplog(
    client: AsyncMongoClient[dict[str, Any]], settings: Settings, catalog: Catalog
) -> list[Finding]:
    answers = await allowed(_say, settings.mongodb, "clusterMonitor", lambda: oplog_facts(client))
    if isinstance(answers, Finding):
        return [answers]
    found: list[Finding] = []
    for group in catalog.groups:
        of = settings_of(settings, group)
        position = await Checkpoint(client[catalog.database], of.watcher.group, 0).load()
        found += judge(answers[0], None if position is None else position.version, of, group)
    return list({one.message: one for one in found}.values())


async def oplog_facts(client: AsyncMongoClient[dict[str, Any]]) -> OplogFacts:
    async def sizes() -> dict[str, Any]:
        cursor = await client.local["oplog.rs"].aggregate([{"$collStats": {"storageStats": {}}}])
        return dict((await cursor.to_list())[0]["storageStats"])

    first, last, stats = await asyncio.gather(end_of_oplog(client, 1), end_of_oplog(client, -1), sizes())
    return OplogFacts(first, last, int(stats["size"]), int(stats["maxSize"]))


def judge(
    facts: OplogFacts, position: Version | None, settings: Settings, group: str = DEFAULT_GROUP
) -> Iterable[Finding]:
    """Of one watcher group, with its settings. `position`: of its watcher; `None`: it has stored none yet."""
    start = run("watcher", group)
    larger = mongosh(
        settings.mongodb, f"db.adminCommand({{ replSetResizeOplog: 1, size: Double({_wanted_mb(facts)}) }})"
    )
    window = facts.window_seconds / 3600
    if position is not None and position < facts.first:
        message = (
            f"the position of watcher group {settings.watcher.group} is {_hours(facts.first, position):.1f} h older "
            "than the oplog: its next start voids everything cached"
        )
        yield _say("problem", "position-lost", message, f"{start}\n{larger}")
    elif position is not None and (away := _hours(facts.last, position)) > window / 2:
        message = (
            f"the position of watcher group {settings.watcher.group} is {_spoken(away)} old, and the oplog reaches "
            f"back {_spoken(window)}: soon everything cached is void"
        )
        yield _say("problem", "position-old", message, f"{start}\n{larger}")
    if window < WANTED_HOURS:
        message = f"at the present rate the oplog reaches back {_spoken(window)}: a watcher that is away longer"
        level: Wrong = "problem" if window < LEAST_HOURS else "warning"
        yield _say(level, "oplog-short", f"{message} voids everything", larger)
    elif position is None or position >= facts.first:
        old = "no position is stored" if position is None else f"position {_spoken(_hours(facts.last, position))} old"
        yield _say.well(f"{old}, the oplog reaches back {_spoken(window)} at the present rate")


def _wanted_mb(facts: OplogFacts) -> int:
    """What a day would need, and some more."""
    rate = facts.used_bytes / facts.held_seconds
    return min(max(round(rate * WANTED_HOURS * 3600 * GROWTH / 2**20), LEAST_MB), MOST_MB)


def _hours(later: Version, earlier: Version) -> float:
    return max((later >> 32) - (earlier >> 32), 0) / 3600


def _spoken(hours: float) -> str:
    if hours < 1:
        return f"{hours * 3600:.0f} s"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} days"
