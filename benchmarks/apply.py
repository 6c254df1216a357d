"""Changes a second that one consumer applies to present entries, beside a loop that only fetches them.

    python -m benchmarks.apply [--changes 200000] [--entries 10000] [--runs 3] [--within 240] [--json FILE]

Real servers; the consumer is a process of its own, as `neverstale run consumer` starts it. It joins an empty topic
and is then halted (SIGSTOP) while the changes are produced, so that the clock runs from the moment at which it may
go on until its watermarks say that all is applied. Every partition ends with a mark. CPU time and the highest
resident size are the operating system's figures for the consumer's process.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import Signals
from typing import Any, Final

import psutil
import uvloop
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from benchmarks import parts
from benchmarks.beside import figure_of
from benchmarks.parts import repeated
from benchmarks.topic import PARTITIONS, TOPIC, end_offsets, following
from neverstale.kafka import events
from neverstale.kafka.topic import ensure_topic
from neverstale.keys import Names
from neverstale.ops.stack.process import RunningProcess
from neverstale.ops.stack.stack import LocalStack, StackOptions
from neverstale.redis.cache import Cache, Fill
from neverstale.settings import Kafka, RedisSettings

GROUP: Final = Kafka().group
CATALOG: Final = """\
database = "bench"

[resources.items]
key_type = "string"
on_change = "auto"
fields = { status = "string", gate = "string", dep_delay = "int", arr_delay = "int" }
"""
BODY: Final = b'{"_id":"2013-02-04:UA650:LGA"%s}' % (b',"field":"twenty-eight bytes of value"' * 15)
CHANGED: Final = (["dep_delay", "status"], ["gate"], ["arr_delay", "status"])
HOUR_MS: Final = 3_600_000
DEADLINE_SECONDS: Final = 120.0
WITHIN_SECONDS: Final = 240.0
TARGET_PER_SECOND: Final = 60_000
TARGET_RSS_MB: Final = 120


@dataclass(frozen=True, kw_only=True)
class ApplyOptions:
    changes: int = 200_000
    entries: int = 10_000
    runs: int = 3


@dataclass(frozen=True, slots=True)
class Run:
    """One drain of all the changes."""

    seconds: float
    per_second: float
    cpu_seconds: float
    bare_per_second: float
    """The same records, fetched by a process that does nothing with them."""

    @property
    def ratio(self) -> float:
        return self.per_second / self.bare_per_second


@dataclass(frozen=True, slots=True)
class Measured:
    broker: str
    changes: int
    runs: list[Run]
    max_rss_mb: float
    lost: list[str]
    """Runs that came to nothing, and why."""

    @property
    def best(self) -> Run:
        return max(self.runs, key=lambda run: run.per_second)

    @property
    def good(self) -> bool:
        return not self.lost and self.best.per_second >= TARGET_PER_SECOND and self.max_rss_mb <= TARGET_RSS_MB


async def measure(options: ApplyOptions) -> Measured:
    """Start everything, drain `options.runs` times, stop everything."""
    with tempfile.TemporaryDirectory(prefix="neverstale-apply-") as folder:
        catalog = Path(folder) / "catalog.toml"
        catalog.write_text(CATALOG)
        async with LocalStack.start(StackOptions(catalog=catalog, broker="kafka")) as stack:
            await ensure_topic(Kafka(bootstrap_servers=stack.bootstrap_servers, partitions=PARTITIONS))
            # Longer than it will be halted.
            consumer = await stack.start_role("consumer", NEVERSTALE_KAFKA__SESSION_TIMEOUT_MS="120000")
            async with Redis.from_url(stack.redis_url) as redis:
                cache = Cache(redis, Names(RedisSettings().prefix))
                runs, lost = await repeated(
                    options.runs, lambda number: _run(options, number, stack, consumer, cache)
                )
            return Measured(stack.kafka.description, options.changes, runs, _max_rss_mb(consumer.pid), lost)


async def _run(options: ApplyOptions, number: int, stack: LocalStack, consumer: RunningProcess, cache: Cache) -> Run:
    # Versions of the past hour, so that none lies in the future of this cluster.
    first = (int(time.time()) - 3600 + 60 * number) << 32
    last = first + options.changes
    keys = [f"s:2013-02-{4 + number % 7:02}:{number:05}:LGA" for number in range(options.entries)]
    await fill_entries(cache, [cache.names.entry("items", key) for key in keys], first)
    consumer.signal(Signals.SIGSTOP)
    start = await end_offsets(stack.bootstrap_servers)
    await produce(stack.bootstrap_servers, keys, options.changes, first, last)
    bare = await _bare(stack.bootstrap_servers, start)
    before = cpu_seconds(consumer.pid)
    started = time.perf_counter()
    consumer.signal(Signals.SIGCONT)
    await _until_applied(cache, last, started + DEADLINE_SECONDS)
    seconds = time.perf_counter() - started
    return Run(seconds, options.changes / seconds, cpu_seconds(consumer.pid) - before, bare)


async def fill_entries(cache: Cache, entries: Sequence[bytes], version: int) -> None:
    for start in range(0, len(entries), 200):
        chunk = entries[start : start + 200]
        await cache.delete(chunk)
        leases = await cache.lease("items", chunk, 0, 10_000)
        results = await cache.fill([Fill(key, leases.token, version, BODY, HOUR_MS) for key in chunk])
        assert set(results) == {"filled"}


async def produce(servers: str, keys: Sequence[str], changes: int, first: int, last: int, topic: str = TOPIC) -> None:
    """The changes, as the watcher writes them, in big batches; then a mark in every partition."""
    chance = random.Random(1)
    wall_ms = int(time.time() * 1000)
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        for partition in range(PARTITIONS):
            records: list[tuple[bytes | None, bytes]] = []
            for number in range(partition, changes, PARTITIONS):
                # One document lives on one partition.
                key = keys[chance.randrange(partition, len(keys), PARTITIONS)]
                fields = chance.choice(CHANGED)
                change = events.Change("update", "bench", "items", key, first + 1 + number, wall_ms, fields)
                records.append((events.record_key("bench", "items", key), events.encode(change)))
            records.append((None, events.encode(events.Mark(last, wall_ms, PARTITIONS, 1))))
            await _send(producer, topic, partition, records)
    finally:
        await producer.stop()


async def _send(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes]]
) -> None:
    batch = producer.create_batch()
    for key, value in records:
        if batch.append(key=key, value=value, timestamp=None) is None:
            batch.close()
            await producer.send_batch(batch, topic, partition=partition)
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    batch.close()
    await (await producer.send_batch(batch, topic, partition=partition))


async def _until_applied(cache: Cache, version: int, deadline: float) -> None:
    while True:
        marks = await cache.watermarks(GROUP)
        held = marks.by_partition.values()
        if len(held) == PARTITIONS and all(mark.version >= version for mark in held):
            return
        assert time.perf_counter() < deadline, "the consumer did not apply everything in time"
        await asyncio.sleep(0.005)


def cpu_seconds(pid: int) -> float:
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


def exact_cpu_seconds(pid: int) -> float:
    """The same, of all its threads, but not in hundredths."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _max_rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


# --- the loop that only fetches, as a process of its own


async def _bare(servers: str, start: dict[int, int]) -> float:
    """Records a second, from the offsets `start` to the present ends."""
    ends = await end_offsets(servers)
    count = sum(ends.values()) - sum(start.values())
    task = json.dumps({"servers": servers, "start": list(start.items()), "count": count})
    return await figure_of("benchmarks.apply", "--fetch", task)


async def _fetch(task: dict[str, Any]) -> float:
    async with following(task["servers"], dict(task["start"]), task["count"]) as batches:
        count, started = 0, time.perf_counter()
        async for records in batches:
            count += len(records)
        return count / (time.perf_counter() - started)


# --- the command


def show(measured: Measured) -> str:
    return "\n".join(
        [
            f"{measured.changes:,} changes over {PARTITIONS} partitions, {measured.broker}, {os.cpu_count()} cores",
            f"{'changes/s':>12} {'seconds':>9} {'CPU s':>7} {'bare fetch/s':>14} {'ratio':>7}",
            *map(_line, measured.runs),
            f"best {measured.best.per_second:,.0f}/s (wanted {TARGET_PER_SECOND:,}),"
            f" max RSS {measured.max_rss_mb:.0f} MB (wanted at most {TARGET_RSS_MB})",
        ]
    )


def _line(run: Run) -> str:
    return (
        f"{run.per_second:>12,.0f} {run.seconds:>9.2f} {run.cpu_seconds:>7.2f}"
        f" {run.bare_per_second:>14,.0f} {run.ratio:>7.2f}"
    )


def as_json(measured: Measured) -> dict[str, Any]:
    best = {**asdict(measured.best), "ratio": measured.best.ratio}
    return {**asdict(measured), "best": best, "good": measured.good}


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the targets are met; 1: they are not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.apply", description=__doc__.split("\n")[0])
    parser.add_argument("--changes", type=int, default=ApplyOptions.changes)
    parser.add_argument("--entries", type=int, default=ApplyOptions.entries)
    parser.add_argument("--runs", type=int, default=ApplyOptions.runs)
    parts.options(parser, WITHIN_SECONDS)
    parser.add_argument("--fetch", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.fetch:
        print(uvloop.run(_fetch(json.loads(given.fetch))))
        return 0
    options = ApplyOptions(changes=given.changes, entries=given.entries, runs=given.runs)
    found = parts.measured("apply", measure(options), given)
    if found is None:
        return 1
    print(show(found))
    if given.json:
        given.json.write_text(json.dumps(as_json(found), indent=2) + "\n")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
