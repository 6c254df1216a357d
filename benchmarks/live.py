"""Live reads: many streams of one key, from the acknowledgement of a write to the last of them.

    python -m benchmarks.live [--streams 5000] [--changes 100] [--broker auto] [--within 240] [--json FILE]

Real servers, every role a process of its own. The streams are opened by another process, which notes when each of
them is given each state; all note `time.monotonic()`, one clock. The next change is written when all have been given
the last one, a little later. Said are, in ms: from the acknowledgement (w: majority) to the first stream, which is
what the pipeline takes, and to half, 99 % and all of them; reads for each change; and what an idle stream costs the
API's process in memory. Streams that never open, changes that do not reach all, and changes for which there was no
time are counted; the others' figures stand.
"""

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil
from pymongo import AsyncMongoClient

from benchmarks import parts
from neverstale.ops.http_client import Connection
from neverstale.ops.stack.stack import LocalStack, StackOptions

CATALOG: Final = 'database = "bench"\n\n[resources.items]\nkey_type = "string"\n'
PATH: Final = "/v1/items/watched"
BODY: Final = "x" * 500
PAUSE_SECONDS: Final = 0.2
SETTLE_SECONDS: Final = 3.0
LAST_CHANGE_SECONDS: Final = 20.0
"""Of the whole benchmark's time, which the last change may take."""
WITHIN_SECONDS: Final = 240.0
MOMENTS: Final = 4
"""The first stream, half, 99 % and all of them."""
MOST: Final = 2


@dataclass(frozen=True, slots=True)
class LiveFigures:
    streams: int
    """That opened."""
    unopened: int
    changes: int
    """That were made."""
    unmade: int
    """For which there was no time."""
    incomplete: int
    """Changes that did not reach all streams in time."""
    first_ms: float | None
    """Of the changes' first stream, the median; the others likewise. `None`: none came so far."""
    half_ms: float | None
    most_ms: float | None
    """99 % of the streams."""
    last_ms: float | None
    spread_ms: float | None
    """From the first stream to 99 % of them, the highest of all changes."""
    reads_per_change: float
    bytes_per_stream: float

    @property
    def whole(self) -> bool:
        return not (self.unopened or self.unmade or self.incomplete)


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
        opened = int(await crowd.stdout.readline() or 0)
        if not opened:
            raise SystemExit("no stream was opened")
        await asyncio.sleep(SETTLE_SECONDS)
        held = process.memory_info().rss - before
        reads = await _metric(stack, "neverstale_live_reads_total")
        rows: list[list[float]] = []
        while len(rows) < changes and parts.left() > LAST_CHANGE_SECONDS:
            number = len(rows) + 1
            crowd.stdin.write(b"%d\n" % number)
            await items.update_one({"_id": "watched"}, {"$set": {"n": number}})
            acknowledged = time.monotonic()
            times = (await crowd.stdout.readline()).split()
            rows.append([(float(at) - acknowledged) * 1000 for at in times])
            await asyncio.sleep(PAUSE_SECONDS)
        reads = await _metric(stack, "neverstale_live_reads_total") - reads
    finally:
        if crowd.returncode is None:
            crowd.kill()
        await crowd.wait()
    return figures(rows, opened, streams, changes, reads, held)


def figures(
    rows: Sequence[Sequence[float]], opened: int, streams: int, changes: int, reads: float, held: float
) -> LiveFigures:
    """`rows`: for each change the milliseconds to the first, half, 99 % and all streams, as far as it came. `opened`
    of `streams`, and `len(rows)` of `changes`, were there."""
    columns = [[row[place] for row in rows if place < len(row)] for place in range(MOMENTS)]
    first, half, most, last = (median(column) if column else None for column in columns)
    return LiveFigures(
        streams=opened,
        unopened=streams - opened,
        changes=len(rows),
        unmade=changes - len(rows),
        incomplete=sum(len(row) < MOMENTS for row in rows),
        first_ms=first,
        half_ms=half,
        most_ms=most,
        last_ms=last,
        spread_ms=max((row[MOST] - row[0] for row in rows if len(row) > MOST), default=None),
        reads_per_change=reads / max(len(rows), 1),
        bytes_per_stream=held / opened,
    )


async def _metric(stack: LocalStack, name: str) -> float:
    connection = await Connection.open(stack.api_url)
    try:
        text = (await connection.get("/metrics", 10)).body.decode()
    finally:
        connection.close()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def show(found: LiveFigures) -> None:
    print(f"{found.streams:,} streams of one key, {found.changes} changes; medians, ms from the acknowledgement")
    print(f"  to the first stream   {_ms(found.first_ms)}   (the pipeline and one read)")
    print(f"  to half of them       {_ms(found.half_ms)}")
    print(f"  to 99 % of them       {_ms(found.most_ms)}")
    print(f"  to all of them        {_ms(found.last_ms)}")
    print(f"  first to 99 %, worst  {_ms(found.spread_ms)}")
    print(f"  reads for each change {found.reads_per_change:8.2f}")
    print(f"  memory for a stream   {found.bytes_per_stream / 1024:8.1f} KiB")
    if not found.whole:
        print(
            f"  {found.unopened:,} streams did not open, {found.incomplete} changes did not reach all in time,"
            f" and {found.unmade} were not made"
        )


def _ms(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.1f}':>8}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all streams were given all changes; 1: some were not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__.split("\n")[0])
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--broker", default="auto")
    parts.options(parser, WITHIN_SECONDS)
    given = parser.parse_args(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < given.streams + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(given.streams + 200, hard), hard))
    found = parts.measured("live reads", measure(given.streams, given.changes, given.broker), given)
    if found is None:
        return 1
    show(found)
    if given.json is not None:
        given.json.write_text(json.dumps(asdict(found), indent=2) + "\n")
    return 0 if found.whole else 1


if __name__ == "__main__":
    sys.exit(main())
