"""Requests a second of one API worker on one core, beside what a reader would otherwise write.

    python -m benchmarks.read [--seconds 3] [--rounds 3] [--rows L1,L2,...] [--json FILE]

Real MongoDB, Redis, watcher and consumer. Every server has core 0 for itself while it is asked, `wrk` has the last
core; the servers are asked in turn, round after round, and each round's figures are compared with the raw ASGI app of
the same round, so that what else the machine does concerns all alike. 64 connections, 1,000 documents of 557 bytes.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil
from pymongo import AsyncMongoClient

from ops.stack.ports import LOOPBACK, answers_http, free_port
from ops.stack.process import Launch, RunningProcess, python
from ops.stack.stack import LocalStack, StackOptions

DOCUMENTS: Final = 1000
BODY_BYTES: Final = 557
CONNECTIONS: Final = 64
CATALOG: Final = """\
database = "bench"

[resources.items]
key_type = "string"
"""
WRK: Final = """\
local requests, n = {}, 0
init = function()
  local headers = HEADERS
  for i = 0, KEYS - 1 do
    requests[i] = wrk.format("GET", "/v1/items/" .. string.format("PATTERN", i), headers)
  end
end
request = function()
  n = n + 1
  return requests[n % KEYS]
end
"""
"""Lua. Requests are made beforehand, so that `wrk` is not what is measured."""


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    server: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """Which documents are asked for, one after the other."""

    name: str = "item"
    count: int = DOCUMENTS
    connections: int = CONNECTIONS

    @property
    def pattern(self) -> str:
        return f"{self.name}-%0{4 if self.name == 'item' else 6}d"


@dataclass(frozen=True, slots=True)
class Load:
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    requests: int
    cpu_us: float = 0.0
    """CPU time of the server for one request: what else runs on the machine hardly changes it."""


@dataclass(slots=True)
class Figures:
    row: Row
    loads: list[Load] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    """To the raw ASGI app of the same round."""


EVEN: Final = Spread()
BASELINE: Final = "raw ASGI constant"
ROWS: Final = (
    Row(BASELINE, "raw"),
    Row("neverstale L1", "L1"),
    Row(
        "neverstale L1, browser's headers",
        "L1",
        {
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "Accept-Language": "en-US,en;q=0.5",
            "Accept-Encoding": "gzip, deflate, br, zstd",
        },
    ),
    Row("neverstale 304", "L1", {"If-None-Match": "*"}),
    Row("neverstale L2", "L2"),
    Row("FastAPI + redis.get", "naive"),
    Row("FastAPI + response_model", "response_model"),
    Row("cashews, Redis", "cashews-redis"),
    Row("cashews, client-side", "cashews-client-side"),
    Row("cashews, memory", "cashews-memory"),
    Row("fastapi-cache2, Redis", "fastapi_cache2"),
    Row("nginx constant", "nginx"),
)


@dataclass(frozen=True, slots=True)
class Peer:
    module: str
    needs: str = "fastapi"
    variables: Mapping[str, str] = field(default_factory=dict)


PEERS: Final = {
    "raw": Peer("raw_asgi"),
    "one-find": Peer("one_find"),
    "naive": Peer("naive"),
    "response_model": Peer("response_model"),
    **{
        f"cashews-{where}": Peer("cashews_app", "cashews", {"PEER_CASHEWS": where})
        for where in ("redis", "client-side", "memory")
    },
    "fastapi_cache2": Peer("fastapi_cache2", "fastapi_cache"),
}


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    seconds: int = 3
    rounds: int = 3
    rows: Sequence[Row] = ROWS


class Bench:
    """The servers that can be asked, by name."""

    def __init__(self, stack: LocalStack, exits: AsyncExitStack, body: str) -> None:
        self.stack = stack
        self._exits = exits
        self._body = body
        self._ports: dict[str, int] = {}
        self._pids: dict[str, int] = {}

    def cpu_seconds(self, server: str) -> float:
        """Used so far."""
        process = psutil.Process(self._pids[server])
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    async def port(self, server: str) -> int | None:
        """Where it answers; it is started when first asked for. `None`: it is not installed."""
        if server not in self._ports:
            port = await self._start(server)
            if port is None:
                return None
            self._ports[server] = port
        return self._ports[server]

    async def _start(self, server: str) -> int | None:
        if server in ("L1", "L2"):
            variables = {"NEVERSTALE_API__L1_BYTES": "0"} if server == "L2" else {}
            role = await self.stack.start_role("api", **variables)
            self._pids[server] = role.pid
            pin(role.pid, 0)
            return role.ports[0]
        if server == "nginx":
            return await self._start_nginx()
        return await self._start_peer(server, PEERS[server])

    async def _start_peer(self, name: str, peer: Peer) -> int | None:
        if find_spec(peer.needs) is None:
            return None
        port = free_port()
        argv = python(
            "uvicorn",
            f"benchmarks.peers.{peer.module}:app",
            "--host",
            LOOPBACK,
            "--port",
            str(port),
            "--loop",
            "uvloop",
            "--http",
            "httptools",
            "--no-access-log",
            "--no-server-header",
            "--log-level",
            "warning",
        )
        variables = {
            "PEER_REDIS": self.stack.redis_url,
            "PEER_MONGODB": self.stack.mongo_uri,
            "PEER_BODY": self._body,
            **peer.variables,
        }
        await self._run(name, argv, port, variables)
        return port

    async def _start_nginx(self) -> int | None:
        nginx = shutil.which("nginx")
        if nginx is None:
            return None
        port, folder = free_port(), self.stack.data / "nginx"
        folder.mkdir()
        (folder / "nginx.conf").write_text(
            f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
            "events { worker_connections 1024; }\n"
            f"http {{ access_log off; keepalive_requests 1000000000; server {{ listen {LOOPBACK}:{port};\n"
            f"  location / {{ default_type application/json; return 200 '{self._body}'; }} }} }}\n"
        )
        await self._run("nginx", [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder)], port, {})
        return port

    async def _run(self, name: str, argv: Sequence[str | Path], port: int, variables: Mapping[str, str]) -> None:
        launch = Launch(
            name=name,
            argv=list(argv),
            log=self.stack.data / "logs" / f"{name}.log",
            ready=partial(answers_http, port, "/v1/items/item-0000"),
            ports=(port,),
            env=variables,
        )
        process = await self._exits.enter_async_context(await RunningProcess.start(launch))
        self._pids[name] = process.pid
        pin(process.pid, 0)


def pin(pid: int, core: int) -> None:
    """Give a process and its children one core."""
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        one.cpu_affinity([core])


def last_core() -> int:
    return (os.cpu_count() or 1) - 1


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """The pipeline with its documents."""
    with tempfile.TemporaryDirectory(prefix="neverstale-read-") as folder:
        catalog = Path(folder) / "catalog.toml"
        catalog.write_text(CATALOG)
        async with LocalStack.start(StackOptions(catalog=catalog)) as stack, AsyncExitStack() as exits:
            async with AsyncMongoClient[dict[str, Any]](stack.mongo_uri) as client:
                await client["bench"]["items"].insert_many(
                    [document(f"item-{number:04}") for number in range(DOCUMENTS)]
                )
            await stack.start_role("watcher")
            await stack.start_role("consumer")
            for process in stack.processes:
                pin(process.pid, last_core())
            yield Bench(stack, exits, json.dumps(document("item-0000"), separators=(",", ":")))


def document(key: str, size: int | None = None) -> dict[str, Any]:
    """One whose JSON has `size` bytes."""
    fields = {f"field_{number:02}": "twenty-eight bytes of value " for number in range(12)}
    room = (size or BODY_BYTES) - len(
        json.dumps({"_id": key, "fields": {**fields, "last": ""}}, separators=(",", ":"))
    )
    return {"_id": key, "fields": {**fields, "last": "x" * room}}


async def wrk(port: int, seconds: int, headers: Mapping[str, str], spread: Spread = EVEN) -> Load:
    lua = ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items())
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        code = WRK.replace("HEADERS", "{" + lua + "}").replace("KEYS", str(spread.count))
        script.write(code.replace("PATTERN", spread.pattern))
        script.flush()
        process = await asyncio.create_subprocess_exec(
            "wrk",
            "-t1",
            f"-c{spread.connections}",
            f"-d{seconds}s",
            "--latency",
            "-s",
            script.name,
            f"http://{LOOPBACK}:{port}",
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=partial(os.sched_setaffinity, 0, {last_core()}),
        )
        output, _ = await process.communicate()
    return _parse(output.decode())


def _parse(output: str) -> Load:
    def milliseconds(percentile: str) -> float:
        match = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)", output)
        assert match, output
        return float(match[1]) * {"us": 0.001, "ms": 1, "s": 1000}[match[2]]

    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert rate, output
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    sockets = re.search(r"Socket errors: (.*)", output)
    failed = sum(map(int, re.findall(r"\d+", sockets[1]))) if sockets else 0
    count = re.search(r"(\d+) requests in", output)
    assert count, output
    errors = failed + (int(bad[1]) if bad else 0)
    return Load(float(rate[1]), milliseconds("50"), milliseconds("99"), errors, int(count[1]))


async def measure(options: ReadOptions) -> list[Figures]:
    async with bench() as servers:
        figures = {row.name: Figures(row) for row in options.rows}
        for row in options.rows:
            port = await servers.port(row.server)
            if port is not None:  # warm: fill the caches, then let the announcements be heard
                await wrk(port, 1, row.headers)
        await asyncio.sleep(1.5)
        for _ in range(options.rounds):
            base: float | None = None
            for row in options.rows:
                port = await servers.port(row.server)
                if port is None:
                    continue
                before = servers.cpu_seconds(row.server)
                load = await wrk(port, options.seconds, row.headers)
                used = servers.cpu_seconds(row.server) - before
                load = replace(load, cpu_us=used / max(load.requests, 1) * 1e6)
                if row.name == BASELINE:
                    base = load.per_second
                figures[row.name].loads.append(load)
                if base:
                    figures[row.name].ratios.append(load.per_second / base)
        return list(figures.values())


def show(figures: Sequence[Figures]) -> str:
    lines = [f"{'':<36}{'req/s':>10}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs':>9}{'ratio':>8}{'errors':>8}"]
    base = next((figure.loads for figure in figures if figure.row.name == BASELINE), [])
    base_cpu = median(load.cpu_us for load in base) if base else 0.0
    for figure in figures:
        if not figure.loads:
            lines.append(f"{figure.row.name:<36}{'not installed':>18}")
            continue
        rate = median(load.per_second for load in figure.loads)
        p50, p99 = (median(getattr(load, name) for load in figure.loads) for name in ("p50_ms", "p99_ms"))
        ratio = f"{median(figure.ratios):.2f}" if figure.ratios else ""
        cpu = median(load.cpu_us for load in figure.loads)
        errors = sum(load.errors for load in figure.loads)
        speed = f"{rate:>10,.0f}{ratio:>8}{p50:>9.2f}{p99:>9.2f}"
        lines.append(f"{figure.row.name:<36}{speed}{cpu:>9.1f}{base_cpu / cpu:>8.2f}{errors:>8}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.read", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=ReadOptions.seconds)
    parser.add_argument("--rounds", type=int, default=ReadOptions.rounds)
    parser.add_argument("--rows", help="names of servers, e.g. raw,L1,L2")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    rows = [row for row in ROWS if given.rows is None or row.server in given.rows.split(",")]
    figures = asyncio.run(measure(ReadOptions(seconds=given.seconds, rounds=given.rounds, rows=rows)))
    print(show(figures))
    if given.json:
        given.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
