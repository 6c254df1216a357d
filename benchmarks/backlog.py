"""How fast a backlog drains after the broker was away, while writes go on.

    python -m benchmarks.backlog [--outage 60] [--rate 2000] [--within 420] [--json FILE]

Real servers and roles; documents are updated at a fixed pace by a process of its own, in bulks of `BULK`. The broker
is killed and started again after the outage. The clock runs from the first watermark that moves again until the
watermark is less than a second of writes behind; the changes between are those of the outage and those that came
meanwhile. Where that takes longer than `DRAIN_SECONDS`, what was applied by then is reported, and what was not.
Writer, MongoDB, Kafka, Redis, watcher and consumer share the machine.
"""

import argparse
import asyncio
import json
import math
import os
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import uvloop
from pymongo import AsyncMongoClient, UpdateOne
from redis.asyncio import Redis

from benchmarks import parts
from benchmarks.apply import cpu_seconds
from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.ops.stack.process import RunningProcess, python
from neverstale.ops.stack.stack import LocalStack, StackOptions
from neverstale.redis.cache import Cache
from neverstale.settings import Kafka, RedisSettings
from neverstale.versions import Version, from_timestamp

CATALOG: Final = """\
database = "bench"

[resources.items]
key_type = "int"
on_change = "auto"
"""
DOCUMENTS: Final = 10_000
BULK: Final = 50
STEADY_SECONDS: Final = 5.0
"""Before the outage."""
RETURN_SECONDS: Final = 90.0
"""From the broker's return to the first change that is applied."""
DRAIN_SECONDS: Final = 120.0
WITHIN_SECONDS: Final = 420.0
LOOK_SECONDS: Final = 0.02
TARGET_PER_SECOND: Final = 30_000

Look: TypeAlias = Callable[[], Awaitable[int]]
"""How many changes are applied by now."""


@dataclass(frozen=True, slots=True)
class Drain:
    seconds: float
    applied: int
    behind: int
    """Changes that were not applied when the time was over; 0: it drained."""


@dataclass(frozen=True, slots=True)
class Measured:
    outage_seconds: float
    writes_per_second: float
    """What the writer managed."""
    backlog: int
    """Changes that were not applied when the first watermark moved again."""
    recovery_seconds: float
    """From the broker's return to that moment."""
    drain: Drain
    watcher_cpu_seconds: float
    consumer_cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.drain.applied / self.drain.seconds

    @property
    def good(self) -> bool:
        return not self.drain.behind and self.per_second >= TARGET_PER_SECOND


class Written:
    """How many changes there are up to a version."""

    def __init__(self) -> None:
        self._versions: list[Version] = [0]
        self._counts: list[int] = [0]

    def note(self, version: Version, count: int) -> None:
        self._versions.append(version)
        self._counts.append(count)

    def up_to(self, version: Version) -> int:
        return self._counts[bisect_right(self._versions, version) - 1]

    @property
    def count(self) -> int:
        return self._counts[-1]


async def measure(outage_seconds: float, rate: float) -> Measured:
    with tempfile.TemporaryDirectory(prefix="neverstale-backlog-") as folder:
        catalog = Path(folder) / "catalog.toml"
        catalog.write_text(CATALOG)
        async with LocalStack.start(StackOptions(catalog=catalog, broker="kafka")) as stack:
            watcher = await stack.start_role("watcher")  # which makes the topic
            roles = (watcher, await stack.start_role("consumer"))
            async with Redis.from_url(stack.redis_url) as redis:
                cache, written = Cache(redis, Names(RedisSettings().prefix)), Written()
                command = python("benchmarks.backlog", "--write", stack.mongo_uri, str(rate))
                writer = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
                noting = asyncio.create_task(_note(writer, written))
                try:
                    return await _lose_broker(stack, roles, writer, cache, written, outage_seconds, rate)
                finally:
                    if writer.returncode is None:
                        writer.kill()
                    await writer.wait()
                    await noting


async def _note(writer: asyncio.subprocess.Process, written: Written) -> None:
    assert writer.stdout is not None
    while (line := await writer.stdout.readline()).endswith(b"\n"):
        version, count = line.split()
        written.note(int(version), int(count))


async def _lose_broker(
    stack: LocalStack,
    roles: Sequence[RunningProcess],
    writer: asyncio.subprocess.Process,
    cache: Cache,
    written: Written,
    outage_seconds: float,
    rate: float,
) -> Measured:
    broker = stack.kafka.members[0]
    await asyncio.sleep(STEADY_SECONDS)
    broker.kill()
    before, lost_at = written.count, time.monotonic()
    await asyncio.sleep(outage_seconds)
    await broker.restart(0)
    back = time.monotonic()
    pace = (written.count - before) / (back - lost_at)
    held, look = await _applied(cache, written), partial(_applied, cache, written)
    first = await until_moved(look, held, RETURN_SECONDS)
    began, backlog, used = time.monotonic(), written.count - first, [cpu_seconds(role.pid) for role in roles]
    drain = await drained(look, lambda: written.count - rate, first, DRAIN_SECONDS)
    if writer.returncode is not None:
        raise SystemExit(f"the writer ended with {writer.returncode}")
    watcher, consumer = (cpu_seconds(role.pid) - before for role, before in zip(roles, used, strict=True))
    return Measured(outage_seconds, pace, backlog, began - back, drain, watcher, consumer)


async def until_moved(applied: Look, held: int, seconds: float) -> int:
    """What is applied as soon as that is more than `held`."""
    until = time.monotonic() + seconds
    while (now := await applied()) <= held:
        if time.monotonic() > until:
            raise SystemExit(f"nothing was applied within {seconds:g} s of the broker's return")
        await asyncio.sleep(LOOK_SECONDS)
    return now


async def drained(applied: Look, wanted: Callable[[], float], first: int, seconds: float) -> Drain:
    """From `first` until as much is applied as is wanted, or the time is over."""
    began = time.monotonic()
    while True:
        now, last = time.monotonic() - began, await applied()
        if last >= (goal := wanted()):
            return Drain(time.monotonic() - began, last - first, 0)
        if now > seconds:
            return Drain(time.monotonic() - began, last - first, math.ceil(goal - last))
        await asyncio.sleep(LOOK_SECONDS)


async def _applied(cache: Cache, written: Written) -> int:
    """How many changes are applied on every partition."""
    try:
        marks = await cache.watermarks(Kafka().group)
    except Outage:
        return 0
    versions = [mark.version for mark in marks.by_partition.values()]
    return written.up_to(min(versions)) if len(versions) == marks.partitions else 0


# --- the writer, as a process of its own


async def _write(uri: str, rate: float) -> None:
    """Update documents at a fixed pace, and print a version and how many changes there are up to it."""
    async with AsyncMongoClient[dict[str, Any]](uri, w="majority") as client:
        items = client["bench"]["items"]
        await items.insert_many([{"_id": number, "n": 0} for number in range(DOCUMENTS)])
        chance, count, started = Random(1), 0, time.monotonic()
        while True:
            if (early := started + count / rate - time.monotonic()) > 0:
                await asyncio.sleep(early)
            keys = chance.sample(range(DOCUMENTS), BULK)
            changes = [UpdateOne({"_id": key}, {"$inc": {"n": 1}}) for key in keys]
            async with client.start_session() as session:
                await items.bulk_write(changes, ordered=False, session=session)
                assert session.operation_time is not None
                count += BULK
                print(from_timestamp(session.operation_time), count, flush=True)


# --- the command


def show(measured: Measured) -> str:
    drain = measured.drain
    each = max(drain.applied, 1)
    return (
        f"{os.cpu_count()} cores; broker away for {measured.outage_seconds:g} s at"
        f" {measured.writes_per_second:,.0f} writes/s: {measured.backlog:,} changes behind,"
        f" {measured.recovery_seconds:.1f} s until the first was applied, then {drain.applied:,} in"
        f" {drain.seconds:.1f} s: {measured.per_second:,.0f}/s (wanted {TARGET_PER_SECOND:,});"
        f" CPU time of a change: watcher {1e6 * measured.watcher_cpu_seconds / each:.1f} us,"
        f" consumer {1e6 * measured.consumer_cpu_seconds / each:.1f} us"
        + (f"; then the time was over, and {drain.behind:,} were not applied" if drain.behind else "")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the target is met; 1: it is not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backlog", description=__doc__.split("\n")[0])
    parser.add_argument("--outage", type=float, default=60.0, help="seconds")
    parser.add_argument("--rate", type=float, default=2000.0, help="writes a second")
    parts.options(parser, WITHIN_SECONDS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.write:
        uvloop.run(_write(given.write[0], float(given.write[1])))
        return 0
    found = parts.measured("backlog", measure(given.outage, given.rate), given)
    if found is None:
        return 1
    print(show(found))
    if given.json:
        figures = {**asdict(found), "per_second": found.per_second, "good": found.good}
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
