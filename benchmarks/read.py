"""Requests a second of one API worker on one core, beside what a reader would otherwise write, and beside what is
wanted of it.

    python -m benchmarks.read [--seconds 1] [--rounds 7] [--rows L1,L2,...] [--parts misses,memory,...]
                              [--within 900] [--json FILE]

Real MongoDB, Redis, watcher and consumer. Every server has core 0 for itself while it is asked, `wrk` has the last
core; the servers are asked in turn, round after round, and each round's figures are compared with those of the same
round, so that what else the machine does concerns all alike. 64 connections, 1,000 documents of 557 bytes. Then come
the parts of `benchmarks.pressure`. What fails says so in its row, and the others go on; rows and parts
for which there is no time left say that. Answers 0 if all targets are
met, else 1.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from benchmarks import parts, pressure
from benchmarks.parts import WRONG, attempt
from benchmarks.serving import CALLER, EVEN, PAGES, Bench, Load, Spread, bench
from benchmarks.targets import Line, at_least, at_most
from benchmarks.targets import show as show_lines


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    server: str
    headers: Mapping[str, str] = field(default_factory=dict)
    spread: Spread = EVEN


@dataclass(slots=True)
class Figures:
    row: Row
    loads: dict[int, Load] = field(default_factory=dict)
    """Round -> what was found in it."""
    wrong: str | None = None
    """Why a round is missing."""


BASELINE: Final = "raw ASGI constant"
L1: Final = "neverstale L1"
L2: Final = "neverstale L2"
PAGE: Final = "neverstale L1, list page"
SAME_BYTES: Final = "neverstale L1, a caller's headers"
CALLERS: Final = "neverstale L1, callers with keys"
NOT_MODIFIED: Final = "neverstale L1, 304"
BROWSER: Final = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
}
ROWS: Final = (
    Row(BASELINE, "raw"),
    Row(L1, "L1"),
    Row("neverstale L1, browser's headers", "L1", BROWSER),
    Row(SAME_BYTES, "L1", CALLER),
    Row(CALLERS, "callers", CALLER),
    Row(NOT_MODIFIED, "L1", {"If-None-Match": "*"}),
    Row(PAGE, "L1", spread=PAGES),
    Row(L2, "L2"),
    Row("neverstale L2, list page", "L2", spread=PAGES),
    Row("FastAPI + redis.get", "naive"),
    Row("FastAPI + response_model", "response_model"),
    Row("cashews, Redis", "cashews-redis"),
    Row("cashews, client-side", "cashews-client-side"),
    Row("cashews, memory", "cashews-memory"),
    Row("fastapi-cache2, Redis", "fastapi_cache2"),
    Row("nginx constant", "nginx"),
)
TARGETS: Final = (
    (L1, BASELINE, 2.3),
    (L2, BASELINE, 1.4),
    (L2, "cashews, Redis", 12),
    (L1, "cashews, memory", 15),
    (L1, "nginx constant", 0.65),
    (PAGE, L1, 0.9),
    (NOT_MODIFIED, L1, 0.9),
)
"""Row, the row beside it, and how many times as fast it shall be."""
OF_CALLERS: Final = 0.95
TARGET_P99_MS: Final = 3
BUILD_SECONDS: Final = 60.0
"""What building lists may take, from the watcher's walk to the first page that is kept."""
WITHIN_SECONDS: Final = 900.0
ROWS_SHARE: Final = 0.6
"""Of the time that is left, for the rows; the parts have the rest."""
PATIENCE_SECONDS: Final = 30.0
"""What starting a server may take, and `wrk` beyond its own time."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    seconds: int = 1
    rounds: int = 7
    rows: Sequence[Row] = ROWS
    parts: Sequence[str] = tuple(pressure.PARTS)


async def measure(options: ReadOptions) -> tuple[list[Figures], dict[str, Any]]:
    """The rows, and what the parts found."""
    async with bench() as servers:
        figures = await _rows(servers, options)
        print(show(figures), flush=True)
        return figures, await pressure.measure_parts(servers, options.parts, options.seconds)


async def _rows(servers: Bench, options: ReadOptions) -> list[Figures]:
    figures = [Figures(row) for row in options.rows]
    for figure in figures:  # warm: fill the caches, then let the announcements be heard
        await _ask(servers, figure, 1)
        if figure.row.spread == PAGES:
            found = await attempt(servers.until_cached(figure.row.server, f"/v1/items/{PAGES.of(0)}"), BUILD_SECONDS)
            figure.wrong = found.get(WRONG, figure.wrong)
    await asyncio.sleep(1.5)
    until = time.monotonic() + ROWS_SHARE * parts.left()
    for number in range(options.rounds):
        for figure in figures:
            if time.monotonic() > until:
                figure.wrong = figure.wrong or parts.NO_TIME
            elif (load := await _ask(servers, figure, options.seconds)) is not None:
                figure.loads[number] = load
    return figures


async def _ask(servers: Bench, figure: Figures, seconds: int) -> Load | None:
    """`None`: it is not installed, or it failed; then the row says why, and keeps what it has."""
    row = figure.row
    found = await attempt(_loaded(servers, row, seconds), seconds + PATIENCE_SECONDS)
    figure.wrong = found.get(WRONG, figure.wrong)
    load: Load | None = found.get("load")
    return load


async def _loaded(servers: Bench, row: Row, seconds: int) -> dict[str, Load | None]:
    if await servers.port(row.server) is None:
        return {"load": None}
    return {"load": await servers.load(row.server, seconds, row.headers, row.spread)}


def ratio(figures: Sequence[Figures], name: str, beside: str) -> float | None:
    """How many times as fast, in the median of the rounds."""
    by_name = {figure.row.name: figure.loads for figure in figures}
    ours, theirs = by_name.get(name, {}), by_name.get(beside, {})
    both = ours.keys() & theirs.keys()
    return median(ours[number].per_second / theirs[number].per_second for number in both) if both else None


def cpu_ratio(figures: Sequence[Figures], name: str, beside: str) -> float | None:
    """How much CPU the server beside it takes for a request, by that of this one."""
    by_name = {figure.row.name: figure.loads for figure in figures}
    ours, theirs = by_name.get(name, {}), by_name.get(beside, {})
    both = ours.keys() & theirs.keys()
    return median(theirs[number].cpu_us / ours[number].cpu_us for number in both) if both else None


def show(figures: Sequence[Figures]) -> str:
    lines = [f"{'':<36}{'req/s':>10}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs':>9}{'ratio':>8}{'errors':>8}"]
    base = next((figure.loads for figure in figures if figure.row.name == BASELINE), {})
    base_cpu = median(load.cpu_us for load in base.values()) if base else 0.0
    for figure in figures:
        if not figure.loads:
            lines.append(f"{figure.row.name:<36}{figure.wrong or 'not installed':>18}")
            continue
        rate, p50, p99, cpu = (
            median(getattr(load, name) for load in figure.loads.values())
            for name in ("per_second", "p50_ms", "p99_ms", "cpu_us")
        )
        times = ratio(figures, figure.row.name, BASELINE)
        shown = f"{rate:>10,.0f}{times or 0:>8.2f}{p50:>9.2f}{p99:>9.2f}{cpu:>9.1f}{base_cpu / cpu:>8.2f}"
        lines.append(f"{figure.row.name:<36}{shown}{sum(load.errors for load in figure.loads.values()):>8}")
    return "\n".join(lines)


def lines_of(figures: Sequence[Figures], found: Mapping[str, Any]) -> Iterator[Line]:
    """What was measured beside what is wanted."""
    for name, beside, wanted in TARGETS:
        times = ratio(figures, name, beside)
        if times is not None:
            yield at_least(f"{name} ÷ {beside}", times, wanted, "{:.2f}")
    for beside in (L1, SAME_BYTES):
        cost = cpu_ratio(figures, CALLERS, beside)
        if cost is not None:
            yield at_least(f"{CALLERS} ÷ {beside}, by CPU", cost, OF_CALLERS, "{:.3f}")
    for figure in figures:
        if figure.wrong is not None:
            yield Line(figure.row.name, f"{len(figure.loads)} rounds, then {figure.wrong}", "", good=False)
        if figure.row.name in (L1, L2) and figure.loads:
            p99 = median(load.p99_ms for load in figure.loads.values())
            yield at_most(f"{figure.row.name}, p99 ms at 64 connections", p99, TARGET_P99_MS, "{:.2f}")
    yield from pressure.lines_of(found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.read", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=ReadOptions.seconds)
    parser.add_argument("--rounds", type=int, default=ReadOptions.rounds)
    parser.add_argument("--rows", help="names of servers, e.g. raw,L1,L2")
    parser.add_argument("--parts", default=",".join(ReadOptions.parts), help="of benchmarks.pressure; empty: none")
    parts.options(parser, WITHIN_SECONDS)
    given = parser.parse_args(arguments)
    rows = [row for row in ROWS if given.rows is None or row.server in given.rows.split(",")]
    names = [part for part in given.parts.split(",") if part]
    options = ReadOptions(seconds=given.seconds, rounds=given.rounds, rows=rows, parts=names)
    measured = parts.measured("read", measure(options), given)
    if measured is None:
        return 1
    figures, found = measured
    lines = list(lines_of(figures, found))
    show_lines(lines)
    if given.json:
        result = {
            "rows": [asdict(figure) for figure in figures],
            **found,
            "targets": [asdict(line) for line in lines],
        }
        given.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(line.good for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
