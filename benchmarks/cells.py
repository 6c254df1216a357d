"""What cells cost, in CPU time: a read from Redis (L2) through one cell, through the cells of one Redis and through
those of a cluster of three masters; and a change, applied to the cells of one Redis by one, two and four consumers.

    python -m benchmarks.cells [--seconds 2] [--rounds 7] [--changes 300000] [--parts read,apply]
                               [--within 600] [--json FILE]

Real servers; three pipelines follow the same documents, and their APIs are asked in turn, round after round, as
`benchmarks.read` does it. One, two and four consumers have a topic, a group and keys of their own each, and apply the
same changes in turn, round after round; all others are halted meanwhile, as all are while changes are produced. The
CPU time is that of all consumers together, from the moment at which they may go on until all is applied. CPU time
hardly depends on what else the machine does; rates do, and are only shown.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import Signals
from statistics import median
from typing import Any, Final

import psutil
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from benchmarks import parts
from benchmarks.apply import CATALOG, exact_cpu_seconds, fill_entries, produce
from benchmarks.parts import FOUND, attempt, failed, repeated
from benchmarks.serving import Bench, Load, bench, last_core, pin, wrk
from benchmarks.targets import Line, at_least, at_most, show
from benchmarks.topic import PARTITIONS
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.kafka.topic import ensure_topic
from neverstale.keys import Names
from neverstale.ops.doctor.group import group_facts
from neverstale.ops.stack.process import RunningProcess
from neverstale.ops.stack.stack import LocalStack, StackOptions
from neverstale.redis.cache import Cache
from neverstale.redis.cells import document_tag
from neverstale.settings import Kafka
from tests.support.redis_cluster import redis_cluster

ONE, CELLS, CLUSTER = "one cell", "cells of one Redis", "cluster of three masters"
IDLE_SECONDS: Final = 5.0
CONSUMERS: Final = (1, 2, 4)
DEADLINE_SECONDS: Final = 60.0
ROUND_SECONDS: Final = 60.0
READ_SECONDS: Final = 240.0
APPLY_SECONDS: Final = 300.0
WITHIN_SECONDS: Final = 600.0
HALTED_MS: Final = "600000"
"""Longer than consumers will be halted."""
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


async def reads(seconds: int, rounds: int) -> tuple[list[Way], list[str]]:
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
            _, lost = await repeated(rounds, lambda number: _round(ways, number, seconds), ROUND_SECONDS)
            return ways, lost


async def _round(ways: Sequence[Way], number: int, seconds: int) -> None:
    """All ways are asked, or none is noted. Another one is the first each time: none always has the better moment."""
    first = number % len(ways)
    found: list[tuple[Way, Load, float]] = []
    for way in (*ways[first:], *ways[:first]):
        before, started = _cpu_seconds(way.pid), time.perf_counter()
        load = await wrk(way.port, seconds, {})
        idle = way.idle * (time.perf_counter() - started)
        found.append((way, load, (_cpu_seconds(way.pid) - before - idle) / max(load.requests, 1) * 1e6))
    for way, load, cpu_us in found:
        way.cpu_us.append(cpu_us)
        way.per_second.append(load.per_second)
        way.errors += load.errors


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
    return sum(exact_cpu_seconds(one.pid) for one in (process, *process.children(recursive=True)))


def cheapness(ways: Sequence[Way], name: str) -> float:
    """The CPU time of a read through one cell, by that of one this way; the median of the rounds."""
    by_name = {way.name: way.cpu_us for way in ways}
    return median(one / this for one, this in zip(by_name[ONE], by_name[name], strict=True))


# --- changes


@dataclass(slots=True)
class Team:
    """Consumers that share a topic of their own; what they found, round by round."""

    topic: str
    caches: Sequence[Cache]
    consumers: Sequence[RunningProcess]
    cpu_us: list[float] = field(default_factory=list)
    """For a change, of all consumers together."""
    per_second: list[float] = field(default_factory=list)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """They are halted before and behind it."""
        for consumer in self.consumers:
            consumer.signal(Signals.SIGCONT)
        try:
            yield
        finally:
            for consumer in self.consumers:
                consumer.signal(Signals.SIGSTOP)

    def cpu_seconds(self) -> float:
        return sum(exact_cpu_seconds(consumer.pid) for consumer in self.consumers)


async def changes(count: int, rounds: int) -> tuple[list[Team], list[str]]:
    async with _applying() as (stack, redis):
        teams = [await _team(stack, redis, number) for number in CONSUMERS]

        async def once(number: int) -> None:
            found = [await _applied(stack, team, count, number) for team in teams]
            if number == 0:
                return  # it warmed them: what runs for the first time asks for memory
            for team, (cpu_us, per_second) in zip(teams, found, strict=True):
                team.cpu_us.append(cpu_us)
                team.per_second.append(per_second)

        _, lost = await repeated(rounds + 1, once, ROUND_SECONDS)
        return teams, lost


@asynccontextmanager
async def _applying() -> AsyncIterator[tuple[LocalStack, Redis]]:
    with tempfile.TemporaryDirectory(prefix="neverstale-cells-") as folder:
        catalog = Path(folder) / "catalog.toml"
        catalog.write_text(CATALOG)
        async with (
            LocalStack.start(StackOptions(catalog=catalog, broker="kafka")) as stack,
            Redis.from_url(stack.redis_url) as redis,
        ):
            yield stack, redis


async def _team(stack: LocalStack, redis: Redis, size: int) -> Team:
    """Halted, once the partitions are shared out."""
    name = f"team-of-{size}"
    await ensure_topic(Kafka(bootstrap_servers=stack.bootstrap_servers, topic=name, partitions=PARTITIONS))
    variables = _named(name, NEVERSTALE_REDIS__CELLS="partition", NEVERSTALE_KAFKA__SESSION_TIMEOUT_MS=HALTED_MS)
    consumers = [await stack.start_role("consumer", **variables) for _ in range(size)]
    tags = [document_tag(DEFAULT_GROUP, PARTITIONS, number) for number in range(PARTITIONS)]
    team = Team(name, [Cache(redis, Names(name).cell(tag)) for tag in tags], consumers)
    with team.at_work():
        await _until_shared_out(stack, team)
    return team


async def _until_shared_out(stack: LocalStack, team: Team) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            facts = await group_facts(admin, Kafka(group=team.topic, topic=team.topic))
            owned = sum(len(one.partitions) for one in facts.members)
            if facts.state == "Stable" and len(facts.members) == len(team.consumers) and owned == PARTITIONS:
                return
            await asyncio.sleep(0.2)
        raise TimeoutError("the group was not shared out")
    finally:
        await admin.close()


async def _applied(stack: LocalStack, team: Team, count: int, number: int) -> tuple[float, float]:
    """CPU microseconds for a change, and changes a second."""
    first = (int(time.time()) - 3600 + 60 * number) << 32
    last = first + count
    keys = [f"s:2013-02-{4 + one % 7:02}:{one:05}:LGA" for one in range(10_000)]
    for partition, cache in enumerate(team.caches):
        await fill_entries(cache, [cache.names.entry("items", key) for key in keys[partition::PARTITIONS]], first)
    await produce(stack.bootstrap_servers, keys, count, first, last, team.topic)
    before, started = team.cpu_seconds(), time.perf_counter()
    with team.at_work():
        done = (_until(cache, team.topic, partition, last) for partition, cache in enumerate(team.caches))
        await asyncio.gather(*done)
        seconds = time.perf_counter() - started
        used = team.cpu_seconds() - before
    return used / count * 1e6, count / seconds


async def _until(cache: Cache, group: str, partition: int, version: int) -> None:
    while True:
        mark = (await cache.watermarks(group)).by_partition.get(partition)
        if mark is not None and mark.version >= version:
            return
        await asyncio.sleep(0.01)


def dearness(teams: Sequence[Team], beside: Team) -> list[float]:
    """Of each team: what a change costs in CPU, by what it costs that one; the median of the rounds."""
    return [median(mine / its for mine, its in zip(team.cpu_us, beside.cpu_us, strict=True)) for team in teams]


# --- the command


def lines_of_reads(ways: Sequence[Way]) -> list[Line]:
    heads = f"{'CPU µs a read':>14}{'beside one':>12}{'idle CPU':>10}{'req/s':>10}{'errors':>8}"
    print(f"{'L2, 64 connections':<28}{heads}")
    for way in ways:
        cpu, rate = median(way.cpu_us), median(way.per_second)
        row = f"{cpu:>14.1f}{cheapness(ways, way.name):>12.3f}{way.idle:>10.1%}{rate:>10,.0f}{way.errors:>8}"
        print(f"{way.name:<28}{row}")
    return [at_least(f"{CELLS} ÷ {ONE}, by CPU", cheapness(ways, CELLS), LEAST, "{:.3f}")]


def lines_of_changes(teams: Sequence[Team]) -> list[Line]:
    print(f"{'consumers':<12}{'CPU µs a change':>16}{'beside one':>12}{'changes/s':>12}")
    beside = dearness(teams, teams[0])
    for team, times in zip(teams, beside, strict=True):
        cpu, rate = median(team.cpu_us), median(team.per_second)
        print(f"{len(team.consumers):<12}{cpu:>16.2f}{times:>12.3f}{rate:>12,.0f}")
    return [at_most("the dearest change ÷ the cheapest, by CPU", max(beside) / min(beside), MOST, "{:.3f}")]


async def measure(names: Sequence[str], seconds: int, rounds: int, count: int) -> tuple[list[Line], dict[str, Any]]:
    lines: list[Line] = []
    found: dict[str, Any] = {"cores": os.cpu_count()}
    if "read" in names:
        part = await attempt(_reads(seconds, rounds), READ_SECONDS)
        lines += part.pop("lines", [failed("reads", part)])
        found["reads"] = part.get(FOUND, part)
    if "apply" in names:
        part = await attempt(_changes(count, rounds), APPLY_SECONDS)
        lines += part.pop("lines", [failed("changes", part)])
        found["changes"] = part.get(FOUND, part)
    return lines, found


async def _reads(seconds: int, rounds: int) -> dict[str, Any]:
    ways, lost = await reads(seconds, rounds)
    lines = [*lines_of_reads(ways), *(Line("reads", why, "", good=False) for why in lost)]
    return {"lines": lines, FOUND: [asdict(way) for way in ways]}


async def _changes(count: int, rounds: int) -> dict[str, Any]:
    teams, lost = await changes(count, rounds)
    lines = [*lines_of_changes(teams), *(Line("changes", why, "", good=False) for why in lost)]
    figures = [{"consumers": len(one.consumers), "cpu_us": one.cpu_us, "per_second": one.per_second} for one in teams]
    return {"lines": lines, FOUND: figures}


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the targets are met; 1: they are not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cells", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--changes", type=int, default=300_000)
    parser.add_argument("--parts", default="read,apply")
    parts.options(parser, WITHIN_SECONDS)
    given = parser.parse_args(arguments)
    measuring = measure(given.parts.split(","), given.seconds, given.rounds, given.changes)
    measured = parts.measured("cells", measuring, given)
    if measured is None:
        return 1
    lines, found = measured
    show(lines)
    if given.json:
        given.json.write_text(json.dumps(found | {"targets": [asdict(line) for line in lines]}, indent=2) + "\n")
    return 0 if all(line.good for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
