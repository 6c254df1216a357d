"""CPU of each role while nothing is written and nobody reads.

    python -m benchmarks.idle [--seconds 60] [--within 300] [--json FILE]

Real servers, the demo's catalog and its week of flights; each role is a process of its own, as `neverstale up` starts
it. The clock runs once all that is derived has been built, and some seconds have passed. Shares are of one core.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Final

import psutil

from benchmarks import parts
from benchmarks.targets import Line, at_most, show
from neverstale.ops.demo.boards import paths
from neverstale.ops.demo.flights.board import week
from neverstale.ops.demo.flights.writers import Writers
from neverstale.ops.http_client import Connection
from neverstale.ops.stack.process import PROJECT, RunningProcess
from neverstale.ops.stack.stack import LocalStack, StackOptions
from neverstale.ops.truth.oracle import Writes

BUILD_SECONDS: Final = 120.0
WITHIN_SECONDS: Final = 300.0
SETTLE_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0
TARGET: Final = 0.03


async def measure(seconds: float) -> dict[str, float]:
    """Role -> share of a core."""
    async with LocalStack.start(StackOptions(catalog=PROJECT / "catalog.toml")) as stack:
        async with Writers(stack.mongo_uri, "nyc", week(), Writes()) as writers:
            await writers.load()
        await stack.start_roles()
        await _until_built(stack.api_url)
        await asyncio.sleep(SETTLE_SECONDS)
        before, began = [cpu_seconds(role) for role in stack.roles], time.monotonic()
        await asyncio.sleep(max(1.0, min(seconds, parts.left())))
        took = time.monotonic() - began
        used = [cpu_seconds(role) - spent for role, spent in zip(stack.roles, before, strict=True)]
        return {role.name: each / took for role, each in zip(stack.roles, used, strict=True)}


async def _until_built(url: str) -> None:
    """Until pages, counters and rankings are answered from the cache."""
    connection = await Connection.open(url)
    async with asyncio.timeout(BUILD_SECONDS):
        for path in paths(flight.document for flight in week().flights):
            while True:
                answer = await connection.get(path, ANSWER_SECONDS)
                if answer.headers.get("cache-status", "").startswith("neverstale; hit"):
                    break
                await asyncio.sleep(0.1)
    connection.close()


def cpu_seconds(role: RunningProcess) -> float:
    """Used so far, by its workers as well."""
    process = psutil.Process(role.pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def lines(found: dict[str, float]) -> list[Line]:
    each = [
        Line(f"CPU of {name} while idle", f"{share:.1%} of a core", "", good=True) for name, share in found.items()
    ]
    return [*each, at_most("CPU of all roles while idle, of a core", sum(found.values()), TARGET, "{:.1%}")]


def main(arguments: Sequence[str] | None = None) -> int:
    """0: the target is met; 1: it is not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parts.options(parser, WITHIN_SECONDS)
    given = parser.parse_args(arguments)
    found = parts.measured("idle", measure(given.seconds), given)
    if found is None:
        return 1
    show(shown := lines(found))
    if given.json:
        given.json.write_text(json.dumps({"roles": found, "all": sum(found.values())}, indent=2) + "\n")
    return 0 if all(line.good for line in shown) else 1


if __name__ == "__main__":
    sys.exit(main())
