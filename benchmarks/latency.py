"""Write acknowledged (w: majority) -> Redis corrected, beside the bare change stream of the same run.

    python -m benchmarks.latency [--rates 200,1000] [--seconds 15] [--broker auto] [--json FILE]

Real servers, every role a process of its own, one consumer. All entries are filled before the clock runs, and each
document is written once, so the first modification of an entry is its correction. Redis itself tells of it: an
observer subscribes to the invalidation messages of `CLIENT TRACKING` (broadcasting, by key prefix), which Redis
sends at the end of the very turn that modified the key. So nothing polls, and the entry is not read.
The writer, the observer and the bare stream are processes of their own; all note `time.monotonic()`, one clock.
Their share of the machine counts too, and is shown.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
from pymongo import AsyncMongoClient
from redis.asyncio import Redis as RedisClient
from rich.console import Console
from rich.table import Table

from benchmarks import bare_stream, paced_writer
from neverstale.keys import Names, canonical
from neverstale.settings import Redis
from ops import corrections
from ops.demo.client import Connection
from ops.demo.report import quantile
from ops.stack.broker import BrokerChoice
from ops.stack.process import Launch, RunningProcess, python
from ops.stack.stack import LocalStack, StackOptions

DATABASE: Final = "bench"
COLLECTION: Final = "items"
CATALOG: Final = f"""\
database = "{DATABASE}"

[resources.{COLLECTION}]
key_type = "int"
on_change = "invalidate"
"""
TARGETS_MS: Final = {200: (1.8, 5.0), 1000: (2.5, 10.0)}
"""Writes a second -> p50 and p99."""
WARM_UP_SECONDS: Final = 3.0
KEYS_A_REQUEST: Final = 200
SETTLE_SECONDS: Final = 60.0
SETTLE_POLL_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyOptions:
    rates: Sequence[int] = (200, 1000)
    seconds: float = 15
    broker: BrokerChoice = "auto"


@dataclass
class Rate:
    """What one rate has shown, in milliseconds from the acknowledgement."""

    per_second: int
    corrected: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    acknowledged: list[float] = field(default_factory=list)
    """From sending the write to its acknowledgement."""
    missing: int = 0
    """Writes whose correction was not seen."""
    cpu: dict[str, float] = field(default_factory=dict)
    """Process -> share of one core while the clock ran."""


async def measure(options: LatencyOptions) -> tuple[str, list[Rate]]:
    """Start everything, measure rate after rate, stop everything. Answers also what the broker was."""
    with tempfile.TemporaryDirectory(prefix="neverstale-latency-") as name:
        folder = Path(name)
        catalog = folder / "catalog.toml"
        catalog.write_text(CATALOG)
        async with LocalStack.start(StackOptions(catalog=catalog, broker=options.broker)) as stack:
            counts = [_count(options, rate) for rate in options.rates]
            await _load(stack.mongo_uri, sum(counts))
            await stack.start_roles()
            await _fill(stack, sum(counts))
            found = []
            for place, rate in enumerate(options.rates):
                found.append(await _measure_rate(stack, folder, rate, sum(counts[:place]), counts[place]))
            return stack.kafka.description, found


def _count(options: LatencyOptions, rate: int) -> int:
    return int(rate * (WARM_UP_SECONDS + options.seconds))


async def _measure_rate(stack: LocalStack, folder: Path, rate: int, first: int, count: int) -> Rate:
    seen, told, written = (folder / f"{name}-{rate}" for name in ("seen", "told", "written"))
    prefix = Names(Redis().prefix).entry_prefix(COLLECTION).decode()
    observer = ("ops.corrections", stack.redis_url, prefix, str(seen), "--no-headers")
    bare = ("benchmarks.bare_stream", stack.mongo_uri, DATABASE, COLLECTION, str(told))
    async with _noting("observer", observer, seen) as watching, _noting("bare stream", bare, told) as listening:
        processes = [*stack.processes, watching, listening]
        before, started = _cpu_seconds(processes), time.monotonic()
        arguments = (stack.mongo_uri, DATABASE, COLLECTION, str(first), str(count), str(rate), str(written))
        await _finish("benchmarks.paced_writer", arguments, folder)
        after, seconds = _cpu_seconds(processes), time.monotonic() - started
        await _until_corrected(stack.redis_url, [entry(number) for number in range(first, first + count)])
    found = _join(rate, seen, told, written, first + int(rate * WARM_UP_SECONDS))
    found.cpu = {name: (after[name] - before[name]) / seconds for name in before}
    return found


def _join(rate: int, seen: Path, told: Path, written: Path, first: int) -> Rate:
    """`first`: documents with a smaller number were written to warm up."""
    corrected_at = _first_seen(corrections.read(seen))
    told_at = {event.number: event.at for event in bare_stream.read(told)}
    found = Rate(rate)
    for write in paced_writer.read(written):
        if write.number < first:
            continue
        found.acknowledged.append((write.acknowledged - write.sent) * 1000)
        if (at := corrected_at.get(entry(write.number))) is None:
            found.missing += 1
        else:
            found.corrected.append((at - write.acknowledged) * 1000)
        if write.number in told_at:
            found.bare.append((told_at[write.number] - write.acknowledged) * 1000)
    for values in (found.acknowledged, found.corrected, found.bare):
        values.sort()
    return found


def entry(number: int) -> bytes:
    """The key in Redis of a document's entry."""
    return Names(Redis().prefix).entry(COLLECTION, canonical(number))


def _first_seen(seen: Iterable[corrections.Seen]) -> dict[bytes, float]:
    first: dict[bytes, float] = {}
    for sight in seen:
        first.setdefault(sight.key, sight.at)
    return first


async def _until_corrected(url: str, entries: Sequence[bytes]) -> None:
    """Wait until none of the entries is served; only then the observer has seen all that there is to see."""
    async with RedisClient.from_url(url) as redis:
        async with asyncio.timeout(SETTLE_SECONDS):
            served = True
            while served:
                served = b"D" in await _states(redis, entries)
                await asyncio.sleep(SETTLE_POLL_SECONDS)


async def _states(redis: RedisClient, entries: Iterable[bytes]) -> list[bytes]:
    pipeline = redis.pipeline(transaction=False)
    for entry in entries:
        pipeline.getrange(entry, 0, 0)
    states: list[bytes] = await pipeline.execute()
    return states


async def _load(uri: str, count: int) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri, w="majority") as client:
        items = client[DATABASE][COLLECTION]
        for first in range(0, count, 1000):
            numbers = range(first, min(first + 1000, count))
            await items.insert_many([{"_id": number, "rev": 0, "text": "x" * 300} for number in numbers])


async def _fill(stack: LocalStack, count: int) -> None:
    """Read documents through the API until all are cached."""
    connection = await Connection.open(stack.api_url)
    async with RedisClient.from_url(stack.redis_url) as redis, asyncio.timeout(SETTLE_SECONDS):
        missing = list(range(count))
        while missing:  # at first the registers may be unknown, and nothing is cached
            for first in range(0, len(missing), KEYS_A_REQUEST):
                keys = ",".join(map(str, missing[first : first + KEYS_A_REQUEST]))
                answer = await connection.get(f"/v1/{COLLECTION}?keys={keys}", SETTLE_SECONDS)
                if answer.status != 200:
                    raise SystemExit(f"the API answered {answer.status}: {answer.body.decode(errors='replace')}")
            states = await _states(redis, map(entry, missing))
            missing = [number for number, state in zip(missing, states, strict=True) if state != b"D"]
    connection.close()


@asynccontextmanager
async def _noting(name: str, command: Sequence[str], notes: Path) -> AsyncIterator[RunningProcess]:
    """A process of ours that has begun to note; stopped at the end, when its notes are whole."""

    async def noted() -> bool:
        return await asyncio.to_thread(lambda: notes.exists() and notes.stat().st_size > 0)

    module, *arguments = command
    launch = Launch(name=name, argv=python(module, *arguments), log=notes.with_suffix(".log"), ready=noted)
    async with await RunningProcess.start(launch) as process:
        yield process


async def _finish(module: str, arguments: Sequence[str], folder: Path) -> None:
    """Run a process of ours to its end."""

    async def ended() -> bool:
        return process.exit_code is not None

    launch = Launch(
        name=module, argv=python(module, *arguments), log=folder / "writer.log", ready=ended, ready_seconds=600
    )
    process = RunningProcess(launch)
    try:
        await process.until_ready()
    finally:
        process.kill()
    if process.exit_code != 0:
        raise SystemExit(process.obituary)


def _cpu_seconds(processes: Iterable[RunningProcess]) -> dict[str, float]:
    times = {process.name: psutil.Process(process.pid).cpu_times() for process in processes}
    return {name: time.user + time.system for name, time in times.items()}


# --- telling


def run(options: LatencyOptions) -> dict[str, Any]:
    """Measure, and answer the figures."""
    broker, rates = asyncio.run(measure(options))
    return {"broker": broker, "rates": [_figures(rate) for rate in rates]}


def _figures(rate: Rate) -> dict[str, Any]:
    p50, p99 = (quantile(rate.corrected, share) for share in (0.5, 0.99))
    target = TARGETS_MS.get(rate.per_second)
    return {
        "writes_per_second": rate.per_second,
        "n": len(rate.corrected),
        "missing": rate.missing,
        "corrected_ms": {"p50": p50, "p99": p99, "max": quantile(rate.corrected, 1)},
        "bare_stream_ms": {"p50": quantile(rate.bare, 0.5), "p99": quantile(rate.bare, 0.99)},
        "acknowledged_ms": {"p50": quantile(rate.acknowledged, 0.5), "p99": quantile(rate.acknowledged, 0.99)},
        "target_ms": {"p50": target[0], "p99": target[1]} if target else None,
        "within_target": None if not target else bool(p50 and p99 and p50 <= target[0] and p99 <= target[1]),
        "cpu_cores": {name: round(share, 3) for name, share in rate.cpu.items()},
    }


def show(figures: Mapping[str, Any], console: Console) -> None:
    table = Table(title=f"Write acknowledged → Redis corrected, p50 / p99 in ms ({figures['broker']})", box=None)
    for column in ("writes/s", "n", "corrected", "target", "bare change stream", "ratio of p50", "acknowledgement"):
        table.add_column(column, justify="right")
    for rate in figures["rates"]:
        corrected, bare, target = rate["corrected_ms"], rate["bare_stream_ms"], rate["target_ms"]
        table.add_row(
            str(rate["writes_per_second"]),
            f"{rate['n']:,}",
            _pair(corrected),
            f"≤ {_pair(target)}" if target else "",
            _pair(bare),
            f"{corrected['p50'] / bare['p50']:.2f}" if corrected["p50"] and bare["p50"] else "",
            _pair(rate["acknowledged_ms"]),
        )
    console.print(table)
    for rate in figures["rates"]:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in rate["cpu_cores"].items() if share >= 0.005)
        console.print(f"  of one core at {rate['writes_per_second']} writes/s: {shares}", style="dim")


def _pair(times: Mapping[str, float | None]) -> str:
    return " / ".join("-" if times[name] is None else f"{times[name]:.2f}" for name in ("p50", "p99"))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency")
    parser.add_argument("--rates", default="200,1000", help="writes a second, one run for each")
    parser.add_argument("--seconds", type=float, default=LatencyOptions().seconds)
    parser.add_argument("--broker", choices=("auto", "kafka", "embedded"), default="auto")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    rates = [int(rate) for rate in arguments.rates.split(",")]
    figures = run(LatencyOptions(rates=rates, seconds=arguments.seconds, broker=arguments.broker))
    show(figures, Console(highlight=False))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
