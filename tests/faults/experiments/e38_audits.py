"""38: nothing fails, and an auditor asks. It finds nothing, and finds each rule that a consumer breaks."""

import asyncio
import contextlib
import time
from typing import Final

from redis.asyncio import Redis

from neverstale.catalog import Catalog
from neverstale.ops.auditor.counts import total
from neverstale.ops.auditor.main import Parts, auditing
from neverstale.ops.truth.oracle import Tally
from neverstale.role.cancellation import heed
from neverstale.settings import Settings
from tests.faults.experiments.e37_storms import LAGGING, Republisher, deriving_from
from tests.faults.rig.derived_truth import Asked
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
"""In the mean."""
BURST_SECONDS: Final = 3.0
PAUSE_SECONDS: Final = 3.0
WRITES_PER_BURST: Final = WRITES_PER_SECOND * (BURST_SECONDS + PAUSE_SECONDS)
MOVED: Final = 0.1
STANDS: Final = 60
EVICTIONS_PER_SECOND: Final = 150
AUDITOR: Final = {"reads_per_second": 1500, "mongodb_reads_per_second": 300, "again_seconds": 1}
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
            await _under_load(turn, pipe, deriving, parts, api.url)
            counts = total(parts.auditor.ledger.all.values())
            examples = [f"{one['path']} ({one['what']}): {one}" for one in parts.witness.kept]
            outcome.add(WRONG, Tally(counts.wrong, counts.checked, examples))
            outcome.count("undecided", counts.undecided)
            for window, stale in zip(("0.1", "1", "2", "10"), counts.stale, strict=True):
                outcome.count(f"stale at {window} s", stale)
    return outcome


async def _under_load(turn: Turn, pipe: Pipeline, deriving: Deriving, parts: Parts, url: str) -> None:
    """Until the time is over, or until something is found where something must be."""
    limit = SECONDS * turn.rounds if turn.rule is None else CONTROL_SECONDS
    until = time.monotonic() + limit
    async with beside(_write(turn, deriving, url), _evict(pipe, turn), _again(pipe, turn)):
        while time.monotonic() < until:
            await asyncio.sleep(0.1)
            if turn.rule and total(parts.auditor.ledger.all.values()).wrong:
                return


async def _write(turn: Turn, deriving: Deriving, url: str) -> None:
    """As much as in the mean, but in bursts: what is wrong for good shows in the pauses."""
    writer, written = Writer(deriving, turn.seed, KEYS, Diary()), 0
    with contextlib.closing(Asked(url)) as asked:
        while True:
            began = time.monotonic()
            for number in range(round(WRITES_PER_BURST)):
                if time.monotonic() > began + BURST_SECONDS:
                    break
                if writer.chance.random() < MOVED:
                    await _move(writer, asked)
                else:
                    await writer.write()
                heed()  # the driver may have lost a cancellation
                written += 1
                if turn.rule == "floors are not raised" and written % 600 == 300:
                    await deriving.documents.drop()
                await asyncio.sleep(max(0.0, began + number * BURST_SECONDS / WRITES_PER_BURST - time.monotonic()))
            await asyncio.sleep(PAUSE_SECONDS)


async def _move(writer: Writer, asked: Asked) -> None:
    """A document goes through some small groups, which few others enter or leave, and a reader looks at each."""
    key = f"k{writer.chance.randrange(KEYS)}"
    for stand in writer.chance.sample(range(STANDS), 3):
        await writer.update(key, {"$set": {"stand": f"s{stand}"}})
        with contextlib.suppress(OSError, TimeoutError):
            await asked.derived("lists/at_stand", {"stand": f"s{stand}"})


async def _again(pipe: Pipeline, turn: Turn) -> None:
    """Records come again, out of order."""
    async with Republisher(pipe, turn.random).at_work():
        await asyncio.get_running_loop().create_future()


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


# Two rules are not among them, since nothing shows them to one who only reads: docs/proof.md says why, experiment 37
# and the searches find them.
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
        "a missing entry counts as fresh",
        "a plain SET fills",
        "tags of stored groups are not raised",
        "INCR instead of contributions",
    ),
    WRONG,
)
SHORT_CONTROLS: Final = ("changes are not applied", "changes are not announced")

EXPERIMENTS = (
    Experiment(
        number="38",
        fault="none; entries are evicted, records come again, reads lag, fills come late; an auditor asks",
        holds="the auditor finds nothing wrong, and a broken rule within a minute",
        run=audited,
        controls=CONTROLS,
        short=1,
        long=15,
        long_controls=[rule for rule in CONTROLS if rule not in SHORT_CONTROLS],
    ),
)
