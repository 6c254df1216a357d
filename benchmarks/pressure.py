"""What an API worker does when the cache cannot help, how it bears other kinds of clients, and what its memory costs.

    python -m benchmarks.pressure [--seconds 3] [--parts misses,stampede,loops,memory,workers]
                                  [--within 420] [--json FILE]

- *misses*: every request asks for a document that nobody has read before, 200 at once, beside an app that reads
  MongoDB once for each request, with the same kind of read; and beside the least that a cache can do about misses:
  it asks Redis, MongoDB and Redis once for all that is asked in a turn, with none of our rules.
- *stampede*: 5,000 clients ask for one document that has just been invalidated; how often MongoDB was read.
- *loops*: hits in L1, asked for by a closed loop of our own and by an open one at 60 % of what `wrk` reaches.
- *memory*: resident size with 100,000 answers of 600 bytes in L1, or with as many as it held in the end.
- *workers*: requests a second with 1, 2 and 4 workers, on all cores but the client's.

Each part has three minutes, and all have the time that `--within` gives. One that fails says why, and the others go
on.
"""

import argparse
import asyncio
import json
import math
import os
import re
import resource
import sys
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from statistics import median
from typing import Any, Final

import psutil
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from benchmarks import parts
from benchmarks.parts import WRONG, attempt, failed
from benchmarks.serving import Bench, Spread, bench, document, last_core, wrk
from benchmarks.targets import Line, at_least, at_most
from benchmarks.targets import show as show_lines
from neverstale.api.hits.fast_path import COUNT_SECONDS
from neverstale.catalog import Catalog
from neverstale.keys import Names
from neverstale.ops.stack.ports import LOOPBACK
from neverstale.ops.stack.process import PROJECT, python
from neverstale.redis.announcements import Announcer
from neverstale.redis.corrections import Corrections
from neverstale.settings import Kafka
from neverstale.versions import Version, from_timestamp, to_hex

MISSES: Final = 40_000
MORE: Final = 1.5
"""Documents for each request that the fastest round had."""
MISS_ROUNDS: Final = 3
MISS_SECONDS: Final = 2
MISSING: Final = 200
"""Clients that ask for what is not cached."""
CLIENTS: Final = 5_000
ENTRIES: Final = 100_000
ENTRY_BYTES: Final = 600
ROOM_BYTES: Final = 256 << 20
"""L1's share of which one half must have room for all."""
HELD: Final = 0.999
"""Hit ratio of all of them from which they are taken to be there."""
READINGS: Final = 12
CHUNK: Final = 5_000
STAMPEDE_SECONDS: Final = 60.0
"""From which on a client of the stampede counts as not answered."""
PART_SECONDS: Final = 180.0
"""What a part may take."""
SETTLED_SECONDS: Final = 60.0
WITHIN_SECONDS: Final = 420.0
TARGET_MISSES: Final = 6
TARGET_RSS_MB: Final = 150


async def misses(servers: Bench, seconds: int) -> dict[str, Any]:
    """Each document is asked for once by each server; `seconds` is of no meaning here."""
    found: dict[str, list[dict[str, Any]]] = {"one-find": [], "least-miss": [], "L2": []}
    rounds, documents = list[dict[str, dict[str, Any]]](), MISSES
    for number in range(MISS_ROUNDS + 1):
        await _insert(servers, f"miss{number}", documents)
        spread = Spread(f"miss{number}", documents, MISSING)
        loads = {server: asdict(await servers.load(server, MISS_SECONDS, {}, spread)) for server in found}
        most = max(load["requests"] for load in loads.values())
        if number:  # in the first round connections are opened
            for server, load in loads.items():
                found[server].append(load)
            # More requests than documents: the last ones were no misses.
            rounds += [loads] if most <= documents else []
        documents = max(documents, math.ceil(MORE * most))
    if not rounds:
        raise SystemExit(f"there were more requests in every round than documents, up to {documents:,}")
    return {
        **found,
        "ratio": median(one["L2"]["per_second"] / one["one-find"]["per_second"] for one in rounds),
        "cpu_ratio": median(one["one-find"]["cpu_us"] / one["L2"]["cpu_us"] for one in rounds),
        "cpu_of_the_least": median(one["L2"]["cpu_us"] / one["least-miss"]["cpu_us"] for one in rounds),
    }


async def stampede(servers: Bench, seconds: int) -> dict[str, Any]:
    """`seconds` is of no meaning here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2 * CLIENTS + 1000), hard))
    clients = min(CLIENTS, hard - 1000)
    port = await servers.port("L1")
    assert port is not None
    request = f"GET /v1/items/item-0000 HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode()
    connections = []
    for start in range(0, clients, 250):
        number = min(250, clients - start)
        connections += await asyncio.gather(*(asyncio.open_connection(LOOPBACK, port) for _ in range(number)))
    try:
        await wrk(port, 1, {})
        await _invalidate(servers, "s:item-0000")
        before = _metric(port, "neverstale_loads_total")
        bypassed = _metric(port, "neverstale_reads_total", 'how="bypass"')
        started = time.perf_counter()
        for _, writer in connections:
            writer.write(request)
        heads = await asyncio.gather(*(_head(reader) for reader, _ in connections))
        took = time.perf_counter() - started
        good = sum(head.startswith(b"HTTP/1.1 200") for head in heads)
        loads = _metric(port, "neverstale_loads_total") - before
        bypassed = _metric(port, "neverstale_reads_total", 'how="bypass"') - bypassed
    finally:
        for _, writer in connections:
            writer.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # Reads that Redis did not answer in time go to MongoDB without it: then this machine was too busy to measure.
    return {"clients": clients, "answered": good, "mongodb_reads": loads, "bypassed": bypassed, "seconds": took}


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Of an answer; empty if none came."""
    try:
        async with asyncio.timeout(STAMPEDE_SECONDS):
            return await reader.readuntil(b"\r\n\r\n")
    except (OSError, EOFError, TimeoutError):
        return b""


async def loops(servers: Bench, seconds: int) -> dict[str, Any]:
    port = await servers.port("L1")
    assert port is not None
    await wrk(port, 1, {})
    found: dict[str, Any] = {"wrk_per_second": (await wrk(port, seconds, {})).per_second}
    found["closed"] = await _client(port, "--seconds", str(seconds))
    rate = 0.6 * found["wrk_per_second"]
    found["open"] = await _client(port, "--seconds", str(seconds), "--rate", str(rate))
    return found


async def _client(port: int, *options: str) -> dict[str, float]:
    argv = [str(word) for word in python("benchmarks.clients", str(port), *options)]
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdout=asyncio.subprocess.PIPE,
        cwd=PROJECT,
        preexec_fn=partial(os.sched_setaffinity, 0, {last_core()}),
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"the client ended with {process.returncode}")
    figures: dict[str, float] = json.loads(output)
    return figures


async def memory(servers: Bench, seconds: int) -> dict[str, Any]:
    """Bodies of 600 bytes, read again and again until all are in L1; `seconds` is of no meaning here."""
    await _insert(servers, "room", ENTRIES, ENTRY_BYTES)
    role = await servers.stack.start_role("api", NEVERSTALE_API__L1_BYTES=str(ROOM_BYTES))
    port = role.ports[0]
    await wrk(port, 1, {})
    empty = _rss_mb(role.pid)
    held, seconds_a_sweep = 0.0, 1.0
    for _ in range(READINGS):
        before = _metric(port, "neverstale_reads_total"), _metric(port, "neverstale_l1_hits_total")
        load = await wrk(port, math.ceil(seconds_a_sweep), {}, Spread("room", ENTRIES))
        reads = _metric(port, "neverstale_reads_total") - before[0]
        hits = _metric(port, "neverstale_l1_hits_total") - before[1]
        held = min(1.0, load.requests / ENTRIES) * hits / reads
        if held > HELD:
            break
        # `wrk` begins with the first document each time, so a reading must be long enough to come to the last one.
        seconds_a_sweep = 1.2 * ENTRIES / load.per_second
    return {
        "entries": ENTRIES,
        "body_bytes": ENTRY_BYTES,
        "held": held,
        "rss_mb_empty": empty,
        "rss_mb": _rss_mb(role.pid),
    }


async def workers(servers: Bench, seconds: int) -> dict[str, Any]:
    found: dict[str, Any] = {"cores": os.cpu_count()}
    for number in (1, 2, 4):
        one = await attempt(_worker_rate(servers, seconds, number), PART_SECONDS / 3)
        found[str(number)] = one.get("per_second", one.get(WRONG))
    return found


async def _worker_rate(servers: Bench, seconds: int, number: int) -> dict[str, float]:
    role = await servers.stack.start_role("api", NEVERSTALE_API__WORKERS=str(number))
    try:
        await wrk(role.ports[0], 2, {})
        return {"per_second": (await wrk(role.ports[0], seconds, {})).per_second}
    finally:
        await role.stop(5)


async def _insert(servers: Bench, name: str, count: int, size: int | None = None) -> None:
    """Waits until the consumer has applied it."""
    async with AsyncMongoClient[dict[str, Any]](servers.stack.mongo_uri) as client, client.start_session() as session:
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            documents = [document(f"{name}-{number:06}", size) for number in numbers]
            await client["bench"]["items"].insert_many(documents, ordered=False, session=session)
        assert session.operation_time is not None
        await _applied(servers, from_timestamp(session.operation_time))


async def _applied(servers: Bench, version: Version) -> None:
    deadline = time.monotonic() + SETTLED_SECONDS
    async with Redis.from_url(servers.stack.redis_url) as redis:
        cache = Corrections(redis, Names("ns"))
        while time.monotonic() < deadline:
            held = await cache.watermarks(Kafka().group)
            marks = held.by_partition.values()
            if held.partitions == len(marks) and all(mark.version >= version for mark in marks):
                return
            await asyncio.sleep(0.05)
    raise SystemExit("the consumer did not keep up")


async def _invalidate(servers: Bench, key: str) -> None:
    """What a consumer does about a change of now."""
    async with Redis.from_url(servers.stack.redis_url) as redis:
        cache = Corrections(redis, Names("ns"), Announcer())
        applied, entry = cache.names.applied, cache.names.entry("items", key)
        shows = Catalog.load(servers.catalog).resources["items"].shows
        _, (held,) = await cache.read("items", [entry], shows)
        raw = await redis.get(applied)
        assert raw is not None and held is not None and held.fresh
        version = max(int(raw, 16), held.version) + 1
        await cache.invalidate(version, [entry], [to_hex(version), "n"], {"items": 0}, 1000)
        _, (held,) = await cache.read("items", [entry], shows)
        assert held is not None and not held.fresh, "it was not invalidated"


def _metric(port: int, name: str, label: str = "") -> float:
    """The sum over its labels, or over those with `label`."""
    time.sleep(2 * COUNT_SECONDS)  # hits in L1 are told to the metrics now and then
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics") as response:
        text = response.read().decode()
    return sum(
        float(value) for value in re.findall(rf"^{name}(?:{{.*?{label}.*?}})? ([\d.e+]+)$", text, re.MULTILINE)
    )


def _rss_mb(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 1e6


PARTS: Final[dict[str, Callable[[Bench, int], Coroutine[Any, Any, dict[str, Any]]]]] = {
    "misses": misses,
    "stampede": stampede,
    "loops": loops,
    "memory": memory,
    "workers": workers,
}


async def measure_parts(servers: Bench, names: Sequence[str], seconds: int) -> dict[str, Any]:
    """What each part found; one that fails leaves the others what they find."""
    found = {}
    for part in names:
        found[part] = await attempt(PARTS[part](servers, seconds), PART_SECONDS)
        print(part, json.dumps(found[part]), flush=True)
    return found


def lines_of(found: Mapping[str, Any]) -> Iterator[Line]:
    """What was measured beside what is wanted."""
    for name, part in found.items():
        if line := failed(name, part):
            yield line
        elif name == "misses":
            yield at_least("misses, 200 at once ÷ one find for each", part["ratio"], TARGET_MISSES, "{:.1f}")
            least = part["cpu_of_the_least"]
            yield Line("CPU for a miss ÷ the least that could do the work", f"{least:.2f}", "", good=True)
        elif name == "stampede":
            yield at_most(f"MongoDB reads for {part['clients']:,} clients of one key", part["mongodb_reads"], 1)
        elif name == "memory":
            # What is not held yet takes no memory yet.
            figure = (
                f"resident MB with {part['held']:.0%} of {part['entries']:,} answers of {part['body_bytes']} bytes"
            )
            line = at_most(figure, part["rss_mb"], TARGET_RSS_MB)
            yield replace(line, good=line.good and part["held"] > HELD)


async def _alone(names: Sequence[str], seconds: int) -> dict[str, Any]:
    async with bench() as servers:
        return await measure_parts(servers, names, seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pressure", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--parts", default=",".join(PARTS))
    parts.options(parser, WITHIN_SECONDS)
    given = parser.parse_args(arguments)
    found = parts.measured("pressure", _alone(given.parts.split(","), given.seconds), given)
    if found is None:
        return 1
    lines = list(lines_of(found))
    show_lines(lines)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(line.good for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
