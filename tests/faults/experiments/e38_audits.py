"""38: nothing fails, and an auditor asks. It finds nothing, and finds each rule that a consumer breaks."""

import asyncio
import time
from typing import Final

from redis.asyncio import Redis

from neverstale.catalog import Catalog
from neverstale.ops.auditor.counts import total
from neverstale.ops.auditor.main import Parts, auditing
from neverstale.ops.truth.oracle import Tally
from neverstale.role.cancellation import heed
from neverstale.settings import Settings
from tests.faults.experiments.e37_storms import LAGGING, deriving_from
from tests.faults.rig.experiment import Experiment, Outcome, Turn
from tests.faults.rig.pipeline import Pipeline
from tests.support.beside import beside
from tests.support.diary import Diary
from tests.worlds.deriving import Deriving, Writer

WRONG: Final = "answers that the auditor found wrong"
KEYS: Final = 400
SECONDS: Final = 4.0
"""Of a round."""
CONTROL_SECONDS: Final = 60.0
WRITES_PER_SECOND: Final = 200
EVICTIONS_PER_SECOND: Final = 150
AUDITOR: Final = {"reads_per_second": 600, "mongodb_reads_per_second": 150, "again_seconds": 1}
LAGGED: Final = "reads come from half a second ago"
LATE: Final = "fills come late"


async def audited(turn: Turn) -> Outcome:
    outcome = Outcome()
    async with deriving_from(turn) as (pipe, deriving):
        _, api, _ = await asyncio.gather(
            pipe.start("watcher"),
            pipe.start("api", LAGGED, LATE),
            pipe.start("consumer", LAGGING),
        )
        await deriving.until_complete()
        settings = settings_of(pipe, api.url)
        async with auditing(settings, Catalog.load(settings.catalog), fills=True) as parts:
            await _under_load(turn, pipe, deriving, parts)
            counts = total(parts.auditor.ledger.all.values())
            examples = [f"{one['path']} ({one['what']}): {one}" for one in parts.witness.kept]
            outcome.add(WRONG, Tally(counts.wrong, counts.checked, examples))
            outcome.count("undecided", counts.undecided)
            for window, stale in zip(("0.1", "1", "2", "10"), counts.stale, strict=True):
                outcome.count(f"stale at {window} s", stale)
    return outcome


async def _under_load(turn: Turn, pipe: Pipeline, deriving: Deriving, parts: Parts) -> None:
    """Until the time is over, or until something is found where something must be."""
    limit = SECONDS * turn.rounds if turn.rule is None else CONTROL_SECONDS
    until = time.monotonic() + limit
    async with beside(_write(turn, deriving), _evict(pipe, turn)):
        while time.monotonic() < until:
            await asyncio.sleep(0.1)
            if turn.rule and total(parts.auditor.ledger.all.values()).wrong:
                return


async def _write(turn: Turn, deriving: Deriving) -> None:
    writer, began, written = Writer(deriving, turn.seed, KEYS, Diary()), time.monotonic(), 0
    while True:
        await writer.write()
        heed()  # the driver may have lost a cancellation
        written += 1
        if turn.rule == "floors are not raised" and written % 600 == 300:
            await deriving.documents.drop()
        await asyncio.sleep(max(0.0, began + written / WRITES_PER_SECOND - time.monotonic()))


async def _evict(pipe: Pipeline, turn: Turn) -> None:
    """As a Redis does that is full."""
    dice = turn.random
    async with Redis.from_url(pipe.redis_url) as redis:
        while True:
            keys = [key async for key in redis.scan_iter(match=f"{pipe.name}:flights:d:*", count=1000)]
            for key in dice.sample(keys, min(30, len(keys))):
                await redis.delete(key)
                await asyncio.sleep(1 / EVICTIONS_PER_SECOND)
            await asyncio.sleep(0.02)


def settings_of(pipe: Pipeline, url: str) -> Settings:
    """The auditor's."""
    environment = pipe.environment
    return Settings.model_validate(
        {
            "catalog": environment["CATALOG"],
            "mongodb": {"uri": environment["MONGODB__URI"]},
            "redis": {"url": pipe.redis_url, "prefix": pipe.name},
            "kafka": {
                "bootstrap_servers": environment["KAFKA__BOOTSTRAP_SERVERS"],
                "topic": pipe.name,
                "group": pipe.name,
            },
            "auditor": {"urls": url, **AUDITOR},
        }
    )


# What shows only where an eviction, a late read or a batch meets a change within milliseconds is seen by experiments
# 4, 5, 37 and the searches, which make it happen; here chance would have to, within a minute.
CONTROLS: Final = dict.fromkeys(
    (
        "changes are not applied",
        "changes are not announced",
        "watermarks come before their changes",
        "applied is not raised",
        "floors are not raised",
        "fills are not compared",
        "no lower bound",
        "the bound is ignored",
        "tags of named groups are not raised",
    ),
    WRONG,
)
SHORT_CONTROLS: Final = ("changes are not applied", "changes are not announced")

EXPERIMENTS = (
    Experiment(
        number="38",
        fault="none; entries are evicted, reads lag, fills come late, 200 writes/s; an auditor asks",
        holds="the auditor finds nothing wrong, and a broken rule within a minute",
        run=audited,
        controls=CONTROLS,
        short=1,
        long=15,
        long_controls=[rule for rule in CONTROLS if rule not in SHORT_CONTROLS],
    ),
)
