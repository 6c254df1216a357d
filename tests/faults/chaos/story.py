"""The storm's story: roles and load start, faults come one after the other, and in the end all is compared."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import orjson

from neverstale.catalog import Catalog
from neverstale.errors import Outage
from neverstale.ops.auditor.main import Parts, auditing
from neverstale.ops.auditor.nines import nines
from neverstale.ops.auditor.record import by_resource
from neverstale.ops.http_client import Connection
from neverstale.ops.truth.oracle import Tally
from neverstale.role.cancellation import heed
from neverstale.settings import Settings
from tests.faults.chaos.faults import Stage, shuffled
from tests.faults.experiments.e37_storms import Republisher, deriving_from
from tests.faults.experiments.e38_audits import settings_of
from tests.faults.rig.bench import Bench
from tests.faults.rig.derived_truth import Asked, compared
from tests.faults.rig.experiment import Turn
from tests.faults.rig.pipeline import metrics
from tests.support.beside import beside
from tests.support.diary import Diary
from tests.worlds.deriving import Deriving, Writer

KEYS: Final = 300
"""That are written."""
WRITERS: Final = 4
WRITES_PER_SECOND: Final = 200
WRITES_OF_A_WRITER: Final = 1000
"""Each keeps a diary of all its writes."""
READS_PER_SECOND: Final = 12_000
MONGODB_READS_PER_SECOND: Final = 800
TELL_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.25
LOOKS_A_LAG: Final = 8
CALM_SECONDS: Final = (2.0, 9.0)
CONVERGE_SECONDS: Final = 120.0
RESOURCE: Final = "flights"
MOST_BROKEN: Final = 64
"""Connections in the pool of a client."""


@dataclass(frozen=True, slots=True)
class Look:
    """The state of the pipeline at a moment."""

    at: float
    bound: float | None
    checked: int
    lag: float | None
    """Records that consumers have not applied yet; `None`: not asked for now, or they do not tell."""


@dataclass
class Report:
    seed: int
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    faults: list[tuple[float, float, str]] = field(default_factory=list)
    """Begin, end, name; seconds from the beginning."""
    failed: list[str] = field(default_factory=list)
    """Faults that could not be made."""
    looks: list[Look] = field(default_factory=list)
    resources: dict[str, Any] = field(default_factory=dict)
    evidence: list[dict[str, Any]] = field(default_factory=list)
    writes: int = 0
    sent_again: int = 0
    at_the_end: dict[str, Tally] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    """All was compared; else this is what was found until then."""

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    @property
    def wrong(self) -> int:
        """Answers, and what was compared at the end."""
        return self.wrong_answers + sum(tally.wrong for tally in self.at_the_end.values())

    @property
    def wrong_answers(self) -> int:
        return sum(kind["wrong"] for kinds in self.resources.values() for kind in kinds.values())

    @property
    def checked(self) -> int:
        """Answers."""
        return sum(kind["checked"] for kinds in self.resources.values() for kind in kinds.values())

    @property
    def nines(self) -> float:
        return nines(self.wrong_answers, self.checked)


@dataclass
class Ending:
    """When the story ends before its time, and who is told of it until then."""

    early: asyncio.Event
    """No further fault: all is compared, and told."""
    tell: Callable[[Report], None]
    """Called now and then, and at the end: a story that is killed has told until then."""


async def story(bench: Bench, report: Report, seconds: float, ending: Ending) -> None:
    seed, dice = report.seed, Random(report.seed)
    turn = Turn(bench, 1, seed)
    async with deriving_from(turn) as (pipe, deriving):
        redis, mongod, broker = await bench.redis(), await bench.mongod(), await bench.kafka()
        roles = await asyncio.gather(
            *(pipe.start("watcher") for _ in range(2)),
            *(pipe.start("consumer") for _ in range(2)),
            *(pipe.start("api") for _ in range(2)),
        )
        await deriving.until_complete()
        stage = Stage(
            *(pipe, deriving, mongod.members[0], redis, broker.cluster.members[0]),
            *(list(roles[:2]), list(roles[2:4]), list(roles[4:])),
            dice,
        )
        await stage.load()
        urls = ",".join(api.url for api in stage.apis)
        settings = _fast(settings_of(pipe, urls))
        republisher = Republisher(pipe, dice)
        report.began = time.monotonic()
        async with auditing(settings, Catalog.load(settings.catalog), fills=True) as parts:
            writers = [_write(deriving, seed + number, report) for number in range(WRITERS)]
            telling = _tell_often(report, parts, republisher, ending)
            async with beside(telling, *writers, _look(stage, parts, report), _again(republisher)):
                await _faults(stage, report, seconds, ending.early)
            report.seconds = report.now
            try:
                async with asyncio.timeout(3 * CONVERGE_SECONDS):
                    await _converged(stage, report)
            except Exception as error:  # what the auditor has found must not be lost with it
                report.at_the_end["compared at all"] = Tally(1, 1)
                report.failed.append(f"the comparison at the end: {type(error).__name__}: {error}")
        _tell(report, parts, republisher)
    report.ended = True


def _fast(settings: Settings) -> Settings:
    given = {
        "reads_per_second": READS_PER_SECOND,
        "mongodb_reads_per_second": MONGODB_READS_PER_SECOND,
        "again_seconds": 5,
    }
    return settings.model_copy(update={"auditor": settings.auditor.model_copy(update=given)})


async def _faults(stage: Stage, report: Report, seconds: float, early: asyncio.Event) -> None:
    """All of them in one order, then in another, until the time is over."""
    while True:
        for name, make in shuffled(stage.dice):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(early.wait(), stage.dice.uniform(*CALM_SECONDS))
            if report.now > seconds or early.is_set():
                return
            began = report.now
            print(f"{began:8.1f} s  {name}", flush=True)
            try:
                async with asyncio.timeout(90):
                    await make(stage)
            except Exception as error:  # the storm goes on
                report.failed.append(f"{name}: {type(error).__name__}: {error}"[:300])
            report.faults.append((began, report.now, name))


async def _write(deriving: Deriving, seed: int, report: Report) -> None:
    """One of several writers, each as fast as its share."""
    writer, next_at = Writer(deriving, seed, KEYS, Diary()), time.monotonic()
    while True:
        try:
            await writer.write()
            report.writes += 1
            heed()
            renewed = writer.written.total() >= WRITES_OF_A_WRITER
        except Exception:  # others write the same keys, the primary may be away, the collection dropped
            await asyncio.sleep(0.2)
            renewed = True
        if renewed:
            writer = Writer(deriving, seed + report.writes, KEYS, Diary())
        next_at = max(next_at + WRITERS / WRITES_PER_SECOND, time.monotonic())
        await asyncio.sleep(next_at - time.monotonic())


async def _again(republisher: Republisher) -> None:
    """Records are sent again, out of order, as long as the broker takes them."""
    while True:
        heed()
        with contextlib.suppress(Exception):
            async with republisher.at_work():
                await asyncio.sleep(30)
        await asyncio.sleep(1)


async def _look(stage: Stage, parts: Parts, report: Report) -> None:
    while True:
        heed()
        counts = parts.auditor.ledger.all.values()
        report.looks.append(
            Look(
                report.now,
                await _bound(stage),
                sum(one.checked for one in counts),
                await _lag(stage) if len(report.looks) % LOOKS_A_LAG == 0 else None,
            )
        )
        await asyncio.sleep(LOOK_SECONDS)


async def _lag(stage: Stage) -> float | None:
    found: list[float] = []
    for consumer in stage.consumers:
        with contextlib.suppress(Exception):  # it may be away, or frozen
            async with asyncio.timeout(1):
                found.append((await metrics(consumer))["neverstale_consumer_lag_records"])
    return sum(found) if found else None


async def _bound(stage: Stage) -> float | None:
    """The widest that an API states; `None`: unknown, or none answers."""
    found: list[float] = []
    for api in stage.apis:
        with contextlib.suppress(OSError, TimeoutError, KeyError):
            connection = await Connection.open(api.url)
            try:
                answer = await connection.get("/v1/freshness", 1)
            finally:
                connection.close()
            bound = orjson.loads(answer.body)["resources"][RESOURCE]["bound"]
            if bound is None:
                return None
            found.append(bound)
    return max(found, default=None)


async def _converged(stage: Stage, report: Report) -> None:
    """Everything is compared once nobody writes and all is applied."""
    hello = await stage.deriving.mongo.admin.command("hello")
    version = (hello["operationTime"].time << 32) + hello["operationTime"].inc
    late = await stage.pipe.passed(version, CONVERGE_SECONDS) is None
    report.at_the_end["not converged"] = Tally(int(late), 1)
    if late:
        return
    for _ in range(MOST_BROKEN):
        with contextlib.suppress(Outage):  # connections of the test's own that Redis has not survived
            await stage.deriving.until_complete()
            break
    with contextlib.closing(Asked(stage.apis[0].url)) as asked:
        known = await asked.until_known(version)
        report.at_the_end["not known to the API"] = Tally(int(not known), 1)
        found = await compared(asked, stage.deriving.documents, [])
    report.at_the_end["pages"] = found.pages
    report.at_the_end["counts and sums"] = found.groups
    report.at_the_end["scores"] = found.scores


async def _tell_often(report: Report, parts: Parts, republisher: Republisher, ending: Ending) -> None:
    while True:
        await asyncio.sleep(TELL_SECONDS)
        heed()
        report.seconds = report.now
        _tell(report, parts, republisher)
        checked = sum(one.checked for one in parts.auditor.ledger.all.values())
        print(f"{report.now:8.1f} s  {checked:,} answers checked, {report.wrong} wrong", flush=True)
        ending.tell(report)


def _tell(report: Report, parts: Parts, republisher: Republisher) -> None:
    report.resources = by_resource(parts.auditor.ledger.all)
    report.evidence = list(parts.witness.kept)
    report.sent_again = republisher.sent
