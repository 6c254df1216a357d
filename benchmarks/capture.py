"""Changes a second from MongoDB's oplog into Kafka, beside a loop that only reads the same change stream.

    python -m benchmarks.capture [--changes 200000] [--documents 10000] [--runs 3] [--json FILE]
                                 [--within 240] [--mongo URI --kafka SERVERS]

The changes lie in the oplog before anything is measured: updates of a few fields, written in unordered bulk
writes. Then, in turn, a process that only reads the stream (same filter, same projection, undecoded events, the next
batch under way while one is counted) and the watcher, as `neverstale run watcher` runs it, with a real broker. The
watcher's time ends when the token behind the last change is stored with majority, so everything is
acknowledged by then. Both clocks start where the stream is opened. CPU time and highest resident size are the
operating system's figures for the process. Without addresses, servers are started on this machine.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import uvloop
from bson import json_util
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne

from benchmarks import parts
from benchmarks.parts import repeated
from neverstale.kafka.topic import ensure_topic
from neverstale.mongodb.control import CONTROL
from neverstale.ops.stack.stack import LocalStack, StackOptions
from neverstale.role import telemetry
from neverstale.role.service import Health
from neverstale.servers import mongo_client
from neverstale.settings import Kafka, MongoDB, Service, Settings
from neverstale.streams.checkpoint import Checkpoint, Position
from neverstale.streams.cursor import At, Database, StreamCursor, present_time
from neverstale.streams.main import tune_garbage_collection
from neverstale.streams.pipeline import Token, pipeline
from neverstale.streams.translate import Watched
from neverstale.streams.watcher import Watcher

DATABASE: Final = "neverstale_capture"
COLLECTION: Final = "flights"
WATCHED: Final = Watched(DATABASE, (COLLECTION,))
POLL_SECONDS: Final = 0.002
WITHIN_SECONDS: Final = 240.0
TARGET_PER_SECOND: Final = 60_000
TARGET_RATIO: Final = 0.7
TARGET_RSS_MB: Final = 100


@dataclass(frozen=True, kw_only=True)
class CaptureOptions:
    changes: int = 200_000
    documents: int = 10_000
    runs: int = 3


@dataclass(frozen=True, slots=True)
class Task:
    """What a measured process is given."""

    mongo: str
    kafka: str
    token: str
    """Extended JSON."""
    changes: int

    @property
    def settings(self) -> Settings:
        kafka = Kafka(bootstrap_servers=self.kafka, topic=DATABASE)
        return Settings(mongodb=MongoDB.model_validate({"uri": self.mongo}), kafka=kafka)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a measured process found."""

    seconds: float
    cpu_seconds: float
    max_rss_mb: float


@dataclass(frozen=True, slots=True)
class Run:
    raw: Reading
    watcher: Reading

    @property
    def ratio(self) -> float:
        return self.raw.seconds / self.watcher.seconds


@dataclass(frozen=True, slots=True)
class Measured:
    changes: int
    runs: list[Run]
    lost: list[str]
    """Runs that came to nothing, and why."""

    @property
    def best(self) -> Run:
        return min(self.runs, key=lambda run: run.watcher.seconds)

    @property
    def ratio(self) -> float:
        """The median, since both sides of a run share what else the machine was doing."""
        return sorted(run.ratio for run in self.runs)[len(self.runs) // 2]

    @property
    def max_rss_mb(self) -> float:
        return max(run.watcher.max_rss_mb for run in self.runs)

    @property
    def good(self) -> bool:
        fast = self.changes / self.best.watcher.seconds >= TARGET_PER_SECOND
        return not self.lost and fast and self.ratio >= TARGET_RATIO and self.max_rss_mb <= TARGET_RSS_MB


@asynccontextmanager
async def servers(mongo: str | None, kafka: str | None) -> AsyncIterator[tuple[str, str]]:
    """The given addresses, or those of servers of our own."""
    if mongo and kafka:
        yield mongo, kafka
        return
    async with LocalStack.start(StackOptions(broker="kafka")) as stack:
        yield stack.mongo_uri, stack.bootstrap_servers


async def measure(options: CaptureOptions, mongo: str, kafka: str) -> Measured:
    """Prepare the oplog, then measure `options.runs` times."""
    task = Task(mongo, kafka, "", options.changes)
    async with mongo_client(task.settings.mongodb) as client:
        database = client.get_database(DATABASE)
        token = await _write(database, options)
        task = Task(mongo, kafka, json_util.dumps(token), options.changes)

        async def run(number: int) -> Run:
            return Run(await _process("raw", task), await _process("watch", task))

        runs, lost = await repeated(options.runs, run)
        await client.drop_database(DATABASE)
    return Measured(options.changes, runs, lost)


async def _write(database: Database, options: CaptureOptions) -> Token:
    """Put documents and then the changes into the oplog; the token between them."""
    chance = random.Random(1)
    collection = database.get_collection(COLLECTION)
    keys = [f"2013-02-{4 + number % 7:02}:{number:05}:LGA" for number in range(options.documents)]
    await collection.drop()
    await collection.insert_many({"_id": key, "status": "scheduled", "dep_delay": 0, "gate": "A1"} for key in keys)
    settings = Settings().watcher
    async with StreamCursor.open(database, [], At(await present_time(database)), settings) as cursor:
        # A batch moves the token past the inserts, if any of them was still to come.
        token = (await cursor.batch()).token
    for start in range(0, options.changes, 1000):
        updates = [_update(chance, keys, number) for number in range(start, min(start + 1000, options.changes))]
        await collection.bulk_write(updates, ordered=False)
    return token


def _update(chance: random.Random, keys: Sequence[str], number: int) -> UpdateOne:
    fields = {"status": f"departed {number}", "dep_delay": chance.randrange(300)}
    return UpdateOne({"_id": chance.choice(keys)}, {"$set": fields})


async def _process(what: str, task: Task) -> Reading:
    argument = json.dumps(asdict(task))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.capture", f"--{what}", argument, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise SystemExit(f"{what} ended with {process.returncode}")
    return Reading(**json.loads(output))


# --- in a process of its own: only read


async def raw(task: Task) -> Reading:
    codec: CodecOptions[RawBSONDocument] = CodecOptions(RawBSONDocument)
    settings = task.settings
    async with mongo_client(settings.mongodb) as client, client.start_session() as session:
        database: Any = client.get_database(DATABASE)

        async def run(command: dict[str, Any]) -> Any:
            return (await database.command(command, codec_options=codec, session=session))["cursor"]

        began, cpu = time.perf_counter(), time.process_time()
        stages = [{"$changeStream": {"startAfter": json_util.loads(task.token)}}, *pipeline(WATCHED.collections)]
        cursor = await run({"aggregate": 1, "pipeline": stages, "cursor": {"batchSize": 0}})
        more = {"getMore": cursor["id"], "collection": "$cmd.aggregate", "batchSize": settings.watcher.batch_size}
        count = 0
        pending = asyncio.create_task(run(dict(more)))
        while count < task.changes:
            batch = (await pending)["nextBatch"]
            pending = asyncio.create_task(run(dict(more)))
            await asyncio.sleep(0)
            count += len(batch)
        reading = _reading(began, cpu)
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
        return reading


# --- in a process of its own: the watcher


async def watch(task: Task) -> Reading:
    settings = task.settings
    telemetry.configure_logging(Service(log_level="warning"))
    tune_garbage_collection()
    async with mongo_client(settings.mongodb) as client:
        database = client.get_database(DATABASE)
        await _begin_at(database, settings, json_util.loads(task.token))
        stop = asyncio.Event()
        watching = asyncio.create_task(Watcher(settings, WATCHED, database, Health()).run(stop))
        await _until(telemetry.STREAM_OPENED.labels("resumed"), 1, watching)
        began, cpu = time.perf_counter(), time.process_time()
        await _until(telemetry.RECORDS_PUBLISHED.labels("change"), task.changes, watching)
        stored = telemetry.CHECKPOINTS
        before = _value(stored)
        stop.set()  # which stores the last token, however recently one was stored
        await _until(stored, before + 1, watching)
        reading = _reading(began, cpu)
        await watching
        return reading


async def _begin_at(database: Database, settings: Settings, token: Token) -> None:
    """Let a watcher begin behind `token`, and with a topic that exists."""
    topic = await ensure_topic(settings.kafka)
    # The run before has left its lease and its position.
    await database.drop_collection(CONTROL)
    checkpoint = Checkpoint(database, settings.watcher.group, term=0)
    checkpoint.reached(Position(token, topic.partitions))
    await checkpoint.save()


async def _until(counter: Any, value: float, watching: asyncio.Task[None]) -> None:
    while _value(counter) < value and not watching.done():  # noqa: ASYNC110  (it knows nothing of being measured)
        await asyncio.sleep(POLL_SECONDS)


def _value(counter: Any) -> float:
    return float(next(sample.value for sample in counter.collect()[0].samples if sample.name.endswith("_total")))


def _reading(began: float, cpu: float) -> Reading:
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Reading(time.perf_counter() - began, time.process_time() - cpu, rss)


# --- the command


def show(measured: Measured) -> str:
    return "\n".join(
        [
            f"{measured.changes:,} changes, {Kafka().partitions} partitions, {os.cpu_count()} cores",
            f"{'':>18} {'watcher':>21}   {'only reading':>21}",
            f"{'ratio':>7} {'max RSS MB':>10} {'changes/s':>12} {'CPU s':>8}   {'changes/s':>12} {'CPU s':>8}",
            *(_line(measured.changes, run) for run in measured.runs),
            f"best {measured.changes / measured.best.watcher.seconds:,.0f}/s (wanted {TARGET_PER_SECOND:,}),"
            f" median ratio {measured.ratio:.2f} (wanted {TARGET_RATIO}),"
            f" max RSS {measured.max_rss_mb:.0f} MB (wanted at most {TARGET_RSS_MB})",
        ]
    )


def _line(changes: int, run: Run) -> str:
    return (
        f"{run.ratio:>7.2f} {run.watcher.max_rss_mb:>10.0f}"
        f" {changes / run.watcher.seconds:>12,.0f} {run.watcher.cpu_seconds:>8.2f}  "
        f" {changes / run.raw.seconds:>12,.0f} {run.raw.cpu_seconds:>8.2f}"
    )


def as_json(measured: Measured) -> dict[str, Any]:
    best = measured.changes / measured.best.watcher.seconds
    facts = {"best_per_second": best, "ratio": measured.ratio, "max_rss_mb": measured.max_rss_mb}
    return {**asdict(measured), **facts, "good": measured.good}


async def _measure(options: CaptureOptions, mongo: str | None, kafka: str | None) -> Measured:
    async with servers(mongo, kafka) as (mongo_uri, kafka_servers):
        return await measure(options, mongo_uri, kafka_servers)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the targets are met; 1: they are not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capture", description=__doc__.split("\n")[0])
    parser.add_argument("--changes", type=int, default=CaptureOptions.changes)
    parser.add_argument("--documents", type=int, default=CaptureOptions.documents)
    parser.add_argument("--runs", type=int, default=CaptureOptions.runs)
    parser.add_argument("--mongo", help="replica set to use instead of one of our own")
    parser.add_argument("--kafka", help="broker to use instead of one of our own")
    parts.options(parser, WITHIN_SECONDS)
    parser.add_argument("--raw", help=argparse.SUPPRESS)
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    for part, argument in ((raw, given.raw), (watch, given.watch)):
        if argument:
            print(json.dumps(asdict(uvloop.run(part(Task(**json.loads(argument)))))))
            return 0
    options = CaptureOptions(changes=given.changes, documents=given.documents, runs=given.runs)
    found = parts.measured("capture", _measure(options, given.mongo, given.kafka), given)
    if found is None:
        return 1
    print(show(found))
    if given.json:
        given.json.write_text(json.dumps(as_json(found), indent=2) + "\n")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
