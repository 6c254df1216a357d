"""CPU of each role while nothing is written and nobody reads.

    python -m benchmarks.idle [--seconds 60] [--within 300] [--json FILE]

Real servers, the demo's catalog and its week of flights; each role is a process of its own, as `neverstale up` starts
it. The clock runs once all that is derived has been built, and some seconds have passed. Then the same time is given
to the least that could do the work (`benchmarks.bare_idle`), on the same servers. Shares are of one core.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

import psutil

from benchmarks import bare_idle, parts
from benchmarks.apply import exact_cpu_seconds
from benchmarks.targets import Line, at_most, show
from neverstale.kafka.topic import ensure_topic
from neverstale.ops.demo.boards import paths
from neverstale.ops.demo.flights.board import week
from neverstale.ops.demo.flights.writers import Writers
from neverstale.ops.http_client import Connection
from neverstale.ops.stack.ports import answers_http, free_port
from neverstale.ops.stack.process import PROJECT, Launch, RunningProcess, python
from neverstale.ops.stack.stack import LocalStack, StackOptions
from neverstale.ops.truth.oracle import Writes
from neverstale.settings import Kafka

BUILD_SECONDS: Final = 120.0
WITHIN_SECONDS: Final = 300.0
SETTLE_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0
TARGET: Final = 0.03


@dataclass(frozen=True, slots=True)
class Measured:
    roles: dict[str, float]
    """Role -> share of a core."""
    least: dict[str, float]
    """The same of the least that could do the work."""

    @property
    def of_the_least(self) -> float:
        return sum(self.roles.values()) / sum(self.least.values())


async def measure(seconds: float) -> Measured:
    async with LocalStack.start(StackOptions(catalog=PROJECT / "catalog.toml")) as stack:
        async with Writers(stack.mongo_uri, "nyc", week(), Writes()) as writers:
            await writers.load()
        await stack.start_roles()
        await _until_built(stack.api_url)
        await asyncio.sleep(SETTLE_SECONDS)
        roles = await _shares(stack.roles, seconds)
        await stack.stop_roles()
        topic, servers = bare_idle.TOPIC, stack.bootstrap_servers
        await ensure_topic(Kafka(bootstrap_servers=servers, topic=topic, partitions=bare_idle.PARTITIONS))
        async with AsyncExitStack() as exits:
            least = [await exits.enter_async_context(await _bare(stack, role)) for role in bare_idle.ROLES]
            await asyncio.sleep(SETTLE_SECONDS)
            return Measured(roles, await _shares(least, seconds))


async def _shares(processes: Sequence[RunningProcess], seconds: float) -> dict[str, float]:
    before, began = [cpu_seconds(one) for one in processes], time.monotonic()
    await asyncio.sleep(max(1.0, min(seconds, parts.left())))
    took = time.monotonic() - began
    used = [cpu_seconds(one) - spent for one, spent in zip(processes, before, strict=True)]
    return {one.name: each / took for one, each in zip(processes, used, strict=True)}


async def _bare(stack: LocalStack, role: str) -> RunningProcess:
    port = free_port()
    variables = {
        "BARE_PORT": str(port),
        "BARE_MONGODB": stack.mongo_uri,
        "BARE_KAFKA": stack.bootstrap_servers,
        "BARE_REDIS": stack.redis_url,
    }
    launch = Launch(
        name=f"{role}-1",
        argv=python("benchmarks.bare_idle", role),
        log=stack.data / "logs" / f"bare-{role}.log",
        ready=partial(answers_http, port, "/"),
        ports=(port,),
        env=variables,
    )
    return await RunningProcess.start(launch)


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
    return sum(exact_cpu_seconds(one.pid) for one in (process, *process.children(recursive=True)))


def lines(found: Measured) -> list[Line]:
    each = [
        Line(f"CPU of {name} while idle", f"{share:.2%} of a core; the least {found.least[name]:.2%}", "", good=True)
        for name, share in found.roles.items()
    ]
    of_the_least = Line(
        "CPU of all roles ÷ the least that could do the work", f"{found.of_the_least:.1f}", "", good=True
    )
    return [
        *each,
        at_most("CPU of all roles while idle, of a core", sum(found.roles.values()), TARGET, "{:.1%}"),
        of_the_least,
    ]


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
        given.json.write_text(json.dumps({**asdict(found), "all": sum(found.roles.values())}, indent=2) + "\n")
    return 0 if all(line.good for line in shown) else 1


if __name__ == "__main__":
    sys.exit(main())
