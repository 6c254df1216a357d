"""Changes a second that one consumer applies with lists, counters and rankings, beside documents only; and what
contributions take of Redis.

    python -m benchmarks.derive [--documents 100000] [--changes 50000] [--rounds 3] [--within 240] [--json FILE]

Real servers and real changes: two collections of the same documents are updated alike, one of a resource that
declares nothing and one with two counters, a list and a ranking. The consumer, a process of its own, is halted
(SIGSTOP) until the watcher has published all of one collection's changes; the clock runs from the moment at which it
may go on until its watermarks say that all is applied. Round after round both are measured, one behind the other, and
compared within the round: absolute times change with what else the machine does. So is the least that could do the
work (`benchmarks.bare_derive`), which follows the same records. Bytes are `MEMORY USAGE` of every
key, with all samples.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import Signals
from statistics import median
from typing import Any, Final

import orjson
from pymongo import AsyncMongoClient, UpdateOne
from redis.asyncio import Redis

from benchmarks import bare_derive, parts
from benchmarks.apply import GROUP, cpu_seconds
from benchmarks.beside import figure_of
from benchmarks.parts import WRONG, attempt, repeated
from benchmarks.topic import end_offsets
from neverstale.keys import Names
from neverstale.mongodb.control import checkpoint_id, control
from neverstale.ops.http_client import Connection
from neverstale.ops.stack.process import RunningProcess
from neverstale.ops.stack.stack import LocalStack, StackOptions
from neverstale.redis.cache import Cache
from neverstale.settings import RedisSettings
from neverstale.versions import from_timestamp

DATABASE: Final = "bench"
PLAIN: Final = "plain"
DERIVED: Final = "derived"
RESOURCE: Final = """\
[resources.%s]
key_type = "string"
fields = { carrier = "string", origin = "string", day = "string", status = "string", dep_delay = "int" }
"""
CATALOG: Final = f"""\
database = "{DATABASE}"

{RESOURCE % PLAIN}
{RESOURCE % DERIVED}
[resources.{DERIVED}.lists.departures]
by = ["origin", "day"]

[resources.{DERIVED}.counters.by_status]
by = ["origin", "status"]

[resources.{DERIVED}.counters.by_carrier]
by = ["carrier"]
sums = {{ delay_minutes = {{ field = "dep_delay" }} }}

[resources.{DERIVED}.rankings.most_delayed]
by = ["day"]
score = "dep_delay"
"""
CARRIERS: Final = ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS", "F9", "YV", "HA", "OO")
ORIGINS: Final = ("EWR", "JFK", "LGA")
STATUSES: Final = ("scheduled", "delayed", "departed", "arrived", "cancelled")
DEADLINE_SECONDS: Final = 120.0
POLL_SECONDS: Final = 0.02
WITHIN_SECONDS: Final = 240.0
CHECK_SECONDS: Final = 30.0
DOCUMENTS_A_WRITE: Final = 2_000
TARGET_PER_SECOND: Final = 30_000
TARGET_BYTES: Final = 250
TARGET_CPU_RATIO: Final = 3.0


@dataclass(frozen=True, kw_only=True)
class DeriveOptions:
    documents: int = 100_000
    changes: int = 50_000
    rounds: int = 3


@dataclass(frozen=True, slots=True)
class Drain:
    """One backlog."""

    per_second: float
    cpu_us: float
    """The consumer's own, for each change."""


@dataclass(frozen=True, slots=True)
class Measured:
    broker: str
    documents: int
    changes: int
    rounds: list[tuple[Drain, Drain, float]]
    """Documents only, with what is derived, and CPU microseconds of the least that could do that."""
    contribution_bytes: float
    """A document."""
    ranking_bytes: float
    """A document."""
    counters_and_tags_bytes: float
    """All together."""
    lost: list[str]
    """What came to nothing, and why."""

    @property
    def plain_per_second(self) -> float:
        return median(plain.per_second for plain, _, _ in self.rounds)

    @property
    def derived_per_second(self) -> float:
        return median(derived.per_second for _, derived, _ in self.rounds)

    @property
    def cpu_ratio(self) -> float:
        """CPU for a change, with what is derived ÷ documents only."""
        return median(derived.cpu_us / plain.cpu_us for plain, derived, _ in self.rounds)

    @property
    def cpu_of_the_least(self) -> float:
        """CPU for a change, with what is derived ÷ the least that could do it."""
        return median(derived.cpu_us / least for _, derived, least in self.rounds)

    @property
    def good(self) -> bool:
        fast = self.derived_per_second >= TARGET_PER_SECOND and self.cpu_ratio <= TARGET_CPU_RATIO
        return not self.lost and fast and self.contribution_bytes <= TARGET_BYTES


async def measure(options: DeriveOptions) -> Measured:
    """Start everything, measure, stop everything."""
    with tempfile.TemporaryDirectory(prefix="neverstale-derive-") as folder:
        catalog = Path(folder) / "catalog.toml"
        catalog.write_text(CATALOG)
        async with (
            LocalStack.start(StackOptions(catalog=catalog, broker="kafka")) as stack,
            AsyncMongoClient[dict[str, Any]](stack.mongo_uri, w="majority") as client,
            Redis.from_url(stack.redis_url) as redis,
        ):
            await _load(client, options.documents)
            await stack.start_role("watcher")
            # Longer than it will be halted.
            consumer = await stack.start_role("consumer", NEVERSTALE_KAFKA__SESSION_TIMEOUT_MS="120000")
            await stack.start_role("api")
            await _until_complete(stack.api_url, options.documents)
            cache = Cache(redis, Names(RedisSettings().prefix))
            await _least(stack, await end_offsets(stack.bootstrap_servers))  # it learns what there is

            async def all_three(number: int) -> tuple[Drain, Drain, float]:
                plain = await _drain(options, client, PLAIN, consumer, cache, number)
                start = await end_offsets(stack.bootstrap_servers)
                derived = await _drain(options, client, DERIVED, consumer, cache, number)
                return plain, derived, 1e6 * await _least(stack, start) / options.changes

            rounds, lost = await repeated(options.rounds, all_three, 2 * DEADLINE_SECONDS)
            checked = await attempt(_checked(client, stack.api_url), CHECK_SECONDS)
            lost += [f"check: {checked[WRONG]}"] if WRONG in checked else []
            sizes = await _sizes(redis)
            return Measured(
                stack.kafka.description,
                options.documents,
                options.changes,
                rounds,
                sizes["b"] / options.documents,
                sizes["z"] / options.documents,
                sizes["c"] + sizes["t"] + sizes["k"],
                lost,
            )


async def _load(client: AsyncMongoClient[dict[str, Any]], count: int) -> None:
    chance = random.Random(1)
    for first in range(0, count, DOCUMENTS_A_WRITE):
        documents = [_document(chance, number) for number in range(first, min(first + DOCUMENTS_A_WRITE, count))]
        for collection in (PLAIN, DERIVED):
            await client[DATABASE][collection].insert_many(documents)


def _key(number: int) -> str:
    return f"2013-02-{4 + number % 7:02}:{CARRIERS[number % 16]}{number}:{ORIGINS[number % 3]}"


def _document(chance: random.Random, number: int) -> dict[str, Any]:
    return {
        "_id": _key(number),
        "carrier": CARRIERS[number % 16],
        "origin": ORIGINS[number % 3],
        "day": f"2013-02-{4 + number % 7:02}",
        "status": chance.choice(STATUSES),
        "dep_delay": chance.randrange(-20, 400),
    }


async def _drain(
    options: DeriveOptions,
    client: AsyncMongoClient[dict[str, Any]],
    collection: str,
    consumer: RunningProcess,
    cache: Cache,
    number: int,
) -> Drain:
    consumer.signal(Signals.SIGSTOP)
    last = await _change(client, collection, options.changes, options.documents, number)
    await _until_published(client, last)
    cpu, started = cpu_seconds(consumer.pid), time.perf_counter()
    consumer.signal(Signals.SIGCONT)
    while True:
        held = (await cache.watermarks(GROUP)).by_partition.values()
        if held and all(mark.version >= last for mark in held):
            seconds = time.perf_counter() - started
            return Drain(options.changes / seconds, 1e6 * (cpu_seconds(consumer.pid) - cpu) / options.changes)
        assert time.perf_counter() - started < DEADLINE_SECONDS, "the consumer did not apply everything in time"
        await asyncio.sleep(POLL_SECONDS)


async def _least(stack: LocalStack, start: Mapping[int, int]) -> float:
    """CPU seconds of the least that could do the work, for all records since then."""
    count = sum((await end_offsets(stack.bootstrap_servers)).values()) - sum(start.values())
    task = bare_derive.Task(
        stack.bootstrap_servers, stack.mongo_uri, stack.redis_url, DATABASE, DERIVED, start, count
    )
    return await figure_of(
        "benchmarks.bare_derive", orjson.dumps(asdict(task), option=orjson.OPT_NON_STR_KEYS).decode()
    )


async def _change(
    client: AsyncMongoClient[dict[str, Any]], collection: str, changes: int, documents: int, number: int
) -> int:
    """As a board changes: the status and the delay of one flight after the other; the version of the last change."""
    chance = random.Random(2 + number)
    async with client.start_session() as session:
        for first in range(0, changes, DOCUMENTS_A_WRITE):
            updates = [
                UpdateOne(
                    {"_id": _key(chance.randrange(documents))},
                    {"$set": {"status": chance.choice(STATUSES), "dep_delay": 1000 + place}},
                )
                for place in range(first, min(first + DOCUMENTS_A_WRITE, changes))
            ]
            await client[DATABASE][collection].bulk_write(updates, ordered=False, session=session)
        assert session.operation_time is not None
        return from_timestamp(session.operation_time)


async def _until_published(client: AsyncMongoClient[dict[str, Any]], version: int) -> None:
    collection = control(client[DATABASE])
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            stored = await collection.find_one({"_id": checkpoint_id("default")})
            if stored is not None and from_timestamp(stored["version"]) > version:
                return
            await asyncio.sleep(POLL_SECONDS)


async def _until_complete(url: str, documents: int) -> None:
    """Wait until the counters are answered from the cache, and count every document."""
    connection = await Connection.open(url)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            answer = await connection.get(f"/v1/{DERIVED}/-/counters/by_carrier", DEADLINE_SECONDS)
            hit = answer.headers.get("cache-status", "").startswith("neverstale; hit")
            if hit and orjson.loads(answer.body)["total"]["count"] == documents:
                break
            await asyncio.sleep(0.1)
    connection.close()


async def _checked(client: AsyncMongoClient[dict[str, Any]], url: str) -> dict[str, Any]:
    """What was derived is what MongoDB says: a benchmark of wrong counts would be worth nothing."""
    group = {"$group": {"_id": "$carrier", "count": {"$sum": 1}, "minutes": {"$sum": "$dep_delay"}}}
    cursor = await client[DATABASE][DERIVED].aggregate([group])
    expected = {row["_id"]: (row["count"], row["minutes"]) for row in await cursor.to_list()}
    connection = await Connection.open(url)
    try:
        while True:  # a busy machine's answer may have passed Redis by
            answer = await connection.get(f"/v1/{DERIVED}/-/counters/by_carrier", DEADLINE_SECONDS)
            if answer.headers.get("cache-status", "").startswith("neverstale; hit"):
                break
            await asyncio.sleep(POLL_SECONDS)
    finally:
        connection.close()
    rows = orjson.loads(answer.body)["groups"]
    if {row["by"]["carrier"]: (row["count"], row["sums"]["delay_minutes"]) for row in rows} != expected:
        raise AssertionError("the counters are not what MongoDB says")
    return {}


async def _sizes(redis: Any) -> dict[str, int]:
    """Bytes by kind of key, see `neverstale.derived.redis_names`."""
    sizes = dict.fromkeys("bcktzlp", 0)
    keys = [key async for key in redis.scan_iter(match=f"*{{{DERIVED}}}:*:*", count=1000)]
    for first in range(0, len(keys), 1000):
        pipeline = redis.pipeline(transaction=False)
        for key in keys[first : first + 1000]:
            pipeline.memory_usage(key, samples=0)
        for key, size in zip(keys[first : first + 1000], await pipeline.execute(), strict=True):
            kind = key.decode().partition("}:")[2].split(":")[1]
            sizes[kind] = sizes.get(kind, 0) + (size or 0)
    return sizes


# --- the command


def show(measured: Measured) -> str:
    plain, derived = measured.plain_per_second, measured.derived_per_second
    return "\n".join(
        [
            f"{measured.changes:,} changes of {measured.documents:,} documents,"
            f" {measured.broker}, {os.cpu_count()} cores",
            f"documents only                            {plain:>10,.0f} changes/s",
            f"with 2 counters, 1 list and 1 ranking     {derived:>10,.0f} changes/s (wanted {TARGET_PER_SECOND:,}),"
            f" {derived / plain:.2f} of that",
            *map(_line, measured.rounds),
            f"CPU for each change, ÷ documents only     {measured.cpu_ratio:>10.2f}"
            f" (wanted at most {TARGET_CPU_RATIO:g})",
            f"CPU for each change, ÷ the least          {measured.cpu_of_the_least:>10.2f}",
            f"contributions                             {measured.contribution_bytes:>10.0f} bytes a document"
            f" (wanted at most {TARGET_BYTES})",
            f"ranking, all members                      {measured.ranking_bytes:>10.0f} bytes a document",
            f"counters, sizes and tags together         {measured.counters_and_tags_bytes:>10,.0f} bytes",
        ]
    )


def _line(one: tuple[Drain, Drain, float]) -> str:
    plain, derived, least = one
    return (
        f"CPU for each change, round by round       {plain.cpu_us:>10.1f} us and {derived.cpu_us:.1f} us,"
        f" the least {least:.1f} us"
    )


def as_json(measured: Measured) -> dict[str, Any]:
    figures = {
        name: getattr(measured, name)
        for name in ("plain_per_second", "derived_per_second", "cpu_ratio", "cpu_of_the_least", "good")
    }
    return {**asdict(measured), **figures}


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the targets are met; 1: they are not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.derive", description=__doc__.split("\n")[0])
    parser.add_argument("--documents", type=int, default=DeriveOptions.documents)
    parser.add_argument("--changes", type=int, default=DeriveOptions.changes)
    parser.add_argument("--rounds", type=int, default=DeriveOptions.rounds)
    parts.options(parser, WITHIN_SECONDS)
    given = parser.parse_args(arguments)
    options = DeriveOptions(documents=given.documents, changes=given.changes, rounds=given.rounds)
    found = parts.measured("derive", measure(options), given)
    if found is None:
        return 1
    print(show(found))
    if given.json:
        given.json.write_text(json.dumps(as_json(found), indent=2) + "\n")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
