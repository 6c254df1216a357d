"""What cells cost, in CPU time: a read from Redis (L2) through one cell, through the cells of one Redis and through
those of a cluster of three masters; and a change, applied to the cells of one Redis by one, two and four consumers.

    python -m benchmarks.cells [--seconds 2] [--rounds 7] [--changes 300000] [--parts read,apply] [--json FILE]

Real servers; three pipelines follow the same documents, and their APIs are asked in turn, round after round, as
`benchmarks.read` does it. Consumers are halted while changes are produced, as `benchmarks.apply` does it; the CPU
time is that of all consumers together. CPU time hardly depends on what else the machine does; rates do, and are only
shown.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import Signals
from statistics import median
from typing import Any, Final

import psutil
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from benchmarks.apply import CATALOG, GROUP, PARTITIONS, cpu_seconds, fill_entries, produce
from benchmarks.serving import Bench, bench, last_core, pin, wrk
from benchmarks.targets import Line, at_least, at_most, show
from neverstale.kafka.topic import ensure_topic
from neverstale.keys import Names
from neverstale.ops.doctor.group import group_facts
from neverstale.ops.stack.process import RunningProcess
from neverstale.ops.stack.stack import LocalStack, StackOptions
from neverstale.redis.cache import Cache
from neverstale.redis.cells import document_tag
from neverstale.settings import Kafka, RedisSettings
from tests.support.redis_cluster import redis_cluster

ONE, CELLS, CLUSTER = "one cell", "cells of one Redis", "cluster of three masters"
IDLE_SECONDS: Final = 5.0
CONSUMERS: Final = (1, 2, 4)
DEADLINE_SECONDS: Final = 120.0
LEAST: Final = 0.95
"""Of a read through cells beside one through one cell, by CPU time."""
MOST: Final = 1.10
"""The dearest change beside the cheapest, by CPU time."""


# --- reads


@dataclass(slots=True)
class Way:
    """One layout: the API that reads so."""

    name: str
    port: int
    pid: int
    idle: float = 0.0
    """CPU seconds a second that it takes while nobody asks: watermarks and channels of each cell."""
    cpu_us: list[float] = field(default_factory=list)
    """For a read, beyond that, round by round."""
    per_second: list[float] = field(default_factory=list)
    errors: int = 0


async def reads(seconds: int, rounds: int) -> list[Way]:
    with tempfile.TemporaryDirectory(prefix="neverstale-cluster-") as folder:
        async with bench() as servers, redis_cluster(Path(folder), masters=3, replicas=0) as cluster:
            for node in cluster.nodes:
                pin(node.pid, last_core())
            ways = [
                await _way(servers, ONE, {}),
                await _way(servers, CELLS, _named("cells", NEVERSTALE_REDIS__CELLS="partition")),
                await _way(servers, CLUSTER, _named("cluster", NEVERSTALE_REDIS__URL=cluster.url)),
            ]
            await asyncio.gather(*(wrk(way.port, 2, {}) for way in ways))  # the caches fill
            await _idle(ways)
            for _ in range(rounds):
                for way in ways:
                    before, started = _cpu_seconds(way.pid), time.perf_counter()
                    load = await wrk(way.port, seconds, {})
                    idle = way.idle * (time.perf_counter() - started)
                    way.cpu_us.append((_cpu_seconds(way.pid) - before - idle) / max(load.requests, 1) * 1e6)
                    way.per_second.append(load.per_second)
                    way.errors += load.errors
            return ways


async def _idle(ways: Sequence[Way]) -> None:
    before, started = [_cpu_seconds(way.pid) for way in ways], time.perf_counter()
    await asyncio.sleep(IDLE_SECONDS)
    for way, used in zip(ways, before, strict=True):
        way.idle = (_cpu_seconds(way.pid) - used) / (time.perf_counter() - started)


def _named(name: str, **more: str) -> dict[str, str]:
    """A pipeline of its own on the same servers."""
    return {
        "NEVERSTALE_KAFKA__TOPIC": name,
        "NEVERSTALE_KAFKA__GROUP": name,
        "NEVERSTALE_WATCHER__GROUP": name,
        "NEVERSTALE_REDIS__PREFIX": name,
        **more,
    }


async def _way(servers: Bench, name: str, variables: Mapping[str, str]) -> Way:
    """`bench` has started watcher and consumer of the first."""
    if variables:
        for role in ("watcher", "consumer"):
            started = await servers.stack.start_role(role, **variables)
            pin(started.pid, last_core())
    api = await servers.stack.start_role("api", NEVERSTALE_API__L1_BYTES="0", **variables)
    pin(api.pid, 0)
    return Way(name, api.ports[0], api.pid)


def _cpu_seconds(pid: int) -> float:
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def cheapness(ways: Sequence[Way], name: str) -> float:
    """The CPU time of a read through one cell, by that of one this way; the median of the rounds."""
    by_name = {way.name: way.cpu_us for way in ways}
    return median(one / this for one, this in zip(by_name[ONE], by_name[name], strict=True))


# --- changes


@dataclass(frozen=True, slots=True)
class Applied:
    consumers: int
    cpu_us: float
    """For a change, of all consumers together."""
    per_second: float


async def changes(count: int, rounds: int) -> list[Applied]:
    async with _applying() as (stack, caches):
        consumers: list[RunningProcess] = []
        found: list[Applied] = []
        for number in CONSUMERS:
            while len(consumers) < number:
                consumers.append(await _consumer(stack))
            await _until_shared_out(stack, number)
            runs = [
                await _applied(stack, caches, consumers, count, len(found) * rounds + run) for run in range(rounds)
            ]
            found.append(min(runs, key=lambda one: one.cpu_us))
        return found


@asynccontextmanager
async def _applying() -> AsyncIterator[tuple[LocalStack, list[Cache]]]:
    with tempfile.TemporaryDirectory(prefix="neverstale-cells-") as folder:
        catalog = Path(folder) / "catalog.toml"
        catalog.write_text(CATALOG)
        async with LocalStack.start(StackOptions(catalog=catalog, broker="kafka")) as stack:
            await ensure_topic(Kafka(bootstrap_servers=stack.bootstrap_servers, partitions=PARTITIONS))
            async with Redis.from_url(stack.redis_url) as redis:
                names = Names(RedisSettings().prefix)
                tags = [document_tag("default", PARTITIONS, number) for number in range(PARTITIONS)]
                yield stack, [Cache(redis, names.cell(tag)) for tag in tags]


async def _consumer(stack: LocalStack) -> RunningProcess:
    return await stack.start_role(
        "consumer", NEVERSTALE_KAFKA__SESSION_TIMEOUT_MS="120000", NEVERSTALE_REDIS__CELLS="partition"
    )


async def _until_shared_out(stack: LocalStack, consumers: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            facts = await group_facts(admin, Kafka(group=GROUP))
            owned = sum(len(one.partitions) for one in facts.members)
            if facts.state == "Stable" and len(facts.members) == consumers and owned == PARTITIONS:
                return
            await asyncio.sleep(0.2)
        raise TimeoutError("the group was not shared out")
    finally:
        await admin.close()


async def _applied(
    stack: LocalStack, caches: Sequence[Cache], consumers: Sequence[RunningProcess], count: int, number: int
) -> Applied:
    first = (int(time.time()) - 3600 + 60 * number) << 32
    last = first + count
    keys = [f"s:2013-02-{4 + one % 7:02}:{one:05}:LGA" for one in range(10_000)]
    for partition, cache in enumerate(caches):
        await fill_entries(cache, [cache.names.entry("items", key) for key in keys[partition::PARTITIONS]], first)
    for consumer in consumers:
        consumer.signal(Signals.SIGSTOP)
    await produce(stack.bootstrap_servers, keys, count, first, last)
    before, started = sum(cpu_seconds(one.pid) for one in consumers), time.perf_counter()
    for consumer in consumers:
        consumer.signal(Signals.SIGCONT)
    await asyncio.gather(*(_until(cache, partition, last) for partition, cache in enumerate(caches)))
    seconds = time.perf_counter() - started
    used = sum(cpu_seconds(one.pid) for one in consumers) - before
    return Applied(len(consumers), used / count * 1e6, count / seconds)


async def _until(cache: Cache, partition: int, version: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        mark = (await cache.watermarks(GROUP)).by_partition.get(partition)
        if mark is not None and mark.version >= version:
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("not everything was applied")


# --- the command


def lines_of_reads(ways: Sequence[Way]) -> list[Line]:
    heads = f"{'CPU µs a read':>14}{'beside one':>12}{'idle CPU':>10}{'req/s':>10}{'errors':>8}"
    print(f"{'L2, 64 connections':<28}{heads}")
    for way in ways:
        cpu, rate = median(way.cpu_us), median(way.per_second)
        row = f"{cpu:>14.1f}{cheapness(ways, way.name):>12.3f}{way.idle:>10.1%}{rate:>10,.0f}{way.errors:>8}"
        print(f"{way.name:<28}{row}")
    return [at_least(f"{CELLS} ÷ {ONE}, by CPU", cheapness(ways, CELLS), LEAST, "{:.3f}")]


def lines_of_changes(found: Sequence[Applied]) -> list[Line]:
    print(f"{'consumers':<12}{'CPU µs a change':>16}{'changes/s':>12}")
    for one in found:
        print(f"{one.consumers:<12}{one.cpu_us:>16.2f}{one.per_second:>12,.0f}")
    times = max(one.cpu_us for one in found) / min(one.cpu_us for one in found)
    return [at_most("the dearest change ÷ the cheapest, by CPU", times, MOST, "{:.3f}")]


async def measure(parts: Sequence[str], seconds: int, rounds: int, count: int) -> tuple[list[Line], dict[str, Any]]:
    lines: list[Line] = []
    found: dict[str, Any] = {"cores": os.cpu_count()}
    if "read" in parts:
        ways = await reads(seconds, rounds)
        lines += lines_of_reads(ways)
        found["reads"] = [asdict(way) for way in ways]
    if "apply" in parts:
        applied = await changes(count, rounds)
        lines += lines_of_changes(applied)
        found["changes"] = [asdict(one) for one in applied]
    return lines, found


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the targets are met; 1: they are not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--changes", type=int, default=300_000)
    parser.add_argument("--parts", default="read,apply")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    lines, found = asyncio.run(measure(given.parts.split(","), given.seconds, given.rounds, given.changes))
    show(lines)
    if given.json:
        given.json.write_text(json.dumps(found | {"targets": [asdict(line) for line in lines]}, indent=2) + "\n")
    return 0 if all(line.good for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
