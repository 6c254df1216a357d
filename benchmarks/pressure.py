"""What one API worker does when the cache cannot help, and what its memory costs.

    python -m benchmarks.pressure [--seconds 3] [--parts misses,stampede,open,memory,workers] [--json FILE]

- *misses*: every request asks for a document that nobody has read before, 200 at once, beside an app that reads
  MongoDB once for each request, with the same kind of read.
- *stampede*: 5,000 clients ask for one document that has just been invalidated; how often MongoDB was read.
- *open*: requests come at their own times, whatever the answers do; latency counts from the time a request was due.
- *memory*: resident size with 100,000 answers of 600 bytes in L1.
- *workers*: requests a second with 1, 2 and 4 workers, on all cores but the client's.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

import psutil
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from benchmarks.read import Bench, Spread, bench, document, last_core, wrk
from neverstale.announcements import Announcer
from neverstale.cache import Cache
from neverstale.keys import Names
from neverstale.versions import to_hex
from ops.stack.ports import LOOPBACK

MISSES: Final = 40_000
CLIENTS: Final = 5_000
ENTRIES: Final = 100_000
ENTRY_BYTES: Final = 600
CHUNK: Final = 5_000


async def misses(servers: Bench, seconds: int) -> dict[str, Any]:
    """Each document is asked for once by each server."""
    await _insert(servers, "miss", MISSES)
    found: dict[str, Any] = {}
    for server in ("one-find", "L2"):
        port = await servers.port(server)
        if port is None:
            continue
        load = await wrk(port, seconds, {}, Spread("miss", MISSES, connections=200))
        found[server] = {"per_second": load.per_second, "p99_ms": load.p99_ms, "errors": load.errors}
        found[server]["asked"] = load.requests
    if len(found) == 2:
        found["ratio"] = found["L2"]["per_second"] / found["one-find"]["per_second"]
    return found


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
        await _invalidate(servers, "s:item-0000")
        before = _metric(port, "neverstale_loads_total")
        bypassed = _metric(port, "neverstale_reads_total", 'how="bypass"')
        started = time.perf_counter()
        for _, writer in connections:
            writer.write(request)
        heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader, _ in connections))
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


async def open_loop(servers: Bench, seconds: int) -> dict[str, Any]:
    """At 60 % of what the closed loop reaches, or of what this client can send."""
    port = await servers.port("L1")
    assert port is not None
    await wrk(port, 1, {})
    closed = (await wrk(port, seconds, {})).per_second
    rate = min(0.6 * closed, 15_000)
    os.sched_setaffinity(0, {last_core()})
    due = await _at_their_own_times(port, rate, seconds)
    cuts = quantiles(due, n=1000)
    return {
        "closed_per_second": closed,
        "offered_per_second": rate,
        "answered_per_second": len(due) / seconds,
        "p50_ms": cuts[499] * 1000,
        "p99_ms": cuts[989] * 1000,
    }


class _Waiting(asyncio.Protocol):
    """One connection; answers come in the order of the requests, each of the same length."""

    def __init__(self, latencies: list[float]) -> None:
        self.due: list[float] = []
        self._latencies = latencies
        self._length = 0
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = re.search(rb"content-length: (\d+)", self._buffer[:end])
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            self._latencies.append(time.perf_counter() - self.due.pop(0))


async def _at_their_own_times(port: int, rate: float, seconds: int) -> list[float]:
    loop, latencies = asyncio.get_running_loop(), list[float]()
    made = [await loop.create_connection(lambda: _Waiting(latencies), LOOPBACK, port) for _ in range(64)]
    connections = [protocol for _, protocol in made]
    requests = [f"GET /v1/items/item-{n:04} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n".encode() for n in range(1000)]
    started, sent, count = time.perf_counter(), 0, int(rate * seconds)
    while sent < count:
        now = time.perf_counter()
        while sent < count and (due := started + sent / rate) <= now:
            connection = connections[sent % len(connections)]
            connection.due.append(due)
            connection.transport.write(requests[sent % len(requests)])
            sent += 1
        await asyncio.sleep(0)
    await eventually(lambda: len(latencies) == count)
    for connection in connections:
        connection.transport.close()
    return latencies


async def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def memory(servers: Bench, seconds: int) -> dict[str, Any]:
    """Bodies of 600 bytes, in Redis beforehand; read until all are in L1."""
    await _insert(servers, "room", ENTRIES, ENTRY_BYTES)
    role = await servers.stack.start_role("api")
    empty = _rss_mb(role.pid)
    port = role.ports[0]
    for _ in range(20):
        await wrk(port, max(seconds, 3), {}, Spread("room", ENTRIES))
        before = _metric(port, "neverstale_reads_total"), _metric(port, "neverstale_l1_hits_total")
        await wrk(port, max(seconds, 3), {}, Spread("room", ENTRIES))
        reads = _metric(port, "neverstale_reads_total") - before[0]
        hits = _metric(port, "neverstale_l1_hits_total") - before[1]
        if reads and hits / reads > 0.999:
            break
    return {"entries": ENTRIES, "body_bytes": ENTRY_BYTES, "rss_mb_empty": empty, "rss_mb": _rss_mb(role.pid)}


async def workers(servers: Bench, seconds: int) -> dict[str, Any]:
    found: dict[str, Any] = {"cores": os.cpu_count()}
    for number in (1, 2, 4):
        role = await servers.stack.start_role("api", NEVERSTALE_API__WORKERS=str(number))
        await wrk(role.ports[0], 2, {})
        found[str(number)] = (await wrk(role.ports[0], seconds, {})).per_second
        await role.stop(5)
    return found


async def _insert(servers: Bench, name: str, count: int, size: int | None = None) -> None:
    async with AsyncMongoClient[dict[str, Any]](servers.stack.mongo_uri) as client:
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            documents = [document(f"{name}-{number:06}", size) for number in numbers]
            await client["bench"]["items"].insert_many(documents, ordered=False)


async def _invalidate(servers: Bench, key: str) -> None:
    """What a consumer does about a change of now."""
    async with Redis.from_url(servers.stack.redis_url) as redis:
        cache = Cache(redis, Names("ns"), Announcer())
        raw = await redis.get(cache.names.applied)
        assert raw is not None
        version = int(raw, 16) + 1
        await cache.invalidate(version, [cache.names.entry("items", key)], [to_hex(version), "n"], {"items": 0}, 1000)


def _metric(port: int, name: str, label: str = "") -> float:
    """The sum over its labels, or over those with `label`."""
    time.sleep(0.5)  # hits in L1 are told to the metrics a few times a second
    with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/metrics") as response:
        text = response.read().decode()
    return sum(
        float(value) for value in re.findall(rf"^{name}(?:{{.*?{label}.*?}})? ([\d.e+]+)$", text, re.MULTILINE)
    )


def _rss_mb(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 1e6


PARTS: Final[dict[str, Callable[[Bench, int], Awaitable[dict[str, Any]]]]] = {
    "misses": misses,
    "stampede": stampede,
    "open": open_loop,
    "memory": memory,
    "workers": workers,
}


async def measure(parts: Sequence[str], seconds: int) -> dict[str, Any]:
    found = {}
    async with bench() as servers:
        for part in parts:
            found[part] = await PARTS[part](servers, seconds)
            print(part, json.dumps(found[part]), flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pressure", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    found = asyncio.run(measure(given.parts.split(","), given.seconds))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
