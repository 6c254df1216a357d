"""Live reads: many streams of one key, from the acknowledgement of a write to the last of them.

    python -m benchmarks.live [--streams 5000] [--changes 100] [--broker auto] [--json FILE]

Real servers, every role a process of its own. The streams are opened by another process, which notes when each of
them is given each state; all note `time.monotonic()`, one clock. The next change is written when all have been given
the last one, a little later. Said are, in ms: from the acknowledgement (w: majority) to the first stream, which is
what the pipeline takes, and to half, 99 % and all of them; reads for each change; and what an idle stream costs the
API's process in memory.
"""

import argparse
import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from pymongo import AsyncMongoClient

from neverstale.ops.http_client import Connection
from neverstale.ops.stack.stack import LocalStack, StackOptions

CATALOG: Final = 'database = "bench"\n\n[resources.items]\nkey_type = "string"\n'
PATH: Final = "/v1/items/watched"
BODY: Final = "x" * 500
PAUSE_SECONDS: Final = 0.2
SETTLE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class LiveFigures:
    streams: int
    changes: int
    first_ms: float
    """Of the changes' first stream, the median; the others likewise."""
    half_ms: float
    most_ms: float
    """99 % of the streams."""
    last_ms: float
    spread_ms: float
    """From the first stream to 99 % of them, the highest of all changes."""
    reads_per_change: float
    bytes_per_stream: float


async def measure(streams: int, changes: int, broker: Any = "auto") -> LiveFigures:
    with tempfile.TemporaryDirectory(prefix="neverstale-live-") as folder:
        catalog = Path(folder) / "catalog.toml"
        catalog.write_text(CATALOG)
        async with (
            LocalStack.start(StackOptions(catalog=catalog, broker=broker)) as stack,
            AsyncMongoClient[dict[str, Any]](stack.mongo_uri, w="majority") as mongo,
        ):
            items = mongo["bench"]["items"]
            await items.insert_one({"_id": "watched", "n": 0, "body": BODY})
            await stack.start_roles(
                NEVERSTALE_LIVE__STREAMS=str(streams + 10),
                NEVERSTALE_LIVE__STREAMS_PER_CALLER="0",
                NEVERSTALE_CLIENTS__CONNECTIONS=str(streams + 100),
            )
            return await _watched(stack, items, streams, changes)


async def _watched(stack: LocalStack, items: Any, streams: int, changes: int) -> LiveFigures:
    (api,) = [role for role in stack.roles if role.name == "api-1"]
    process = psutil.Process(api.pid)
    await _metric(stack, "neverstale_live_reads_total")
    before = process.memory_info().rss
    crowd = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.watchers", str(stack.api_port), PATH, str(streams)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert crowd.stdin is not None
    assert crowd.stdout is not None
    try:
        await crowd.stdout.readline()
        await asyncio.sleep(SETTLE_SECONDS)
        held = process.memory_info().rss - before
        reads = await _metric(stack, "neverstale_live_reads_total")
        rows: list[list[float]] = []
        for number in range(1, changes + 1):
            crowd.stdin.write(b"%d\n" % number)
            await items.update_one({"_id": "watched"}, {"$set": {"n": number}})
            acknowledged = time.monotonic()
            times = (await crowd.stdout.readline()).split()
            rows.append([(float(at) - acknowledged) * 1000 for at in times])
            await asyncio.sleep(PAUSE_SECONDS)
        reads = await _metric(stack, "neverstale_live_reads_total") - reads
    finally:
        crowd.kill()
        await crowd.wait()
    first, half, most, last = (statistics.median(column) for column in zip(*rows, strict=True))
    spread = max(row[2] - row[0] for row in rows)
    return LiveFigures(streams, changes, first, half, most, last, spread, reads / changes, held / streams)


async def _metric(stack: LocalStack, name: str) -> float:
    connection = await Connection.open(stack.api_url)
    try:
        text = (await connection.get("/metrics", 10)).body.decode()
    finally:
        connection.close()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def show(figures: LiveFigures) -> None:
    print(f"{figures.streams:,} streams of one key, {figures.changes} changes; medians, ms from the acknowledgement")
    print(f"  to the first stream   {figures.first_ms:8.1f}   (the pipeline and one read)")
    print(f"  to half of them       {figures.half_ms:8.1f}")
    print(f"  to 99 % of them       {figures.most_ms:8.1f}")
    print(f"  to all of them        {figures.last_ms:8.1f}")
    print(f"  first to 99 %, worst  {figures.spread_ms:8.1f}")
    print(f"  reads for each change {figures.reads_per_change:8.2f}")
    print(f"  memory for a stream   {figures.bytes_per_stream / 1024:8.1f} KiB")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.live")
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--broker", default="auto")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < options.streams + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(options.streams + 200, hard), hard))
    figures = asyncio.run(measure(options.streams, options.changes, options.broker))
    show(figures)
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(figures), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
