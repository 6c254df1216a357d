"""What the benchmarks of reads ask: the pipeline with its documents, API workers, and what one would otherwise write.

Every server that is asked has core 0 for itself, the client and all other servers have the last core.
"""

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psutil
from pymongo import AsyncMongoClient

from neverstale.api.callers.key_file import KeyFile, StaticKey, hashed, now
from neverstale.ops.http_client import Connection
from neverstale.ops.stack.ports import LOOPBACK, answers_http, free_port
from neverstale.ops.stack.process import Launch, RunningProcess, python
from neverstale.ops.stack.stack import LocalStack, StackOptions

DOCUMENTS: Final = 1000
BODY_BYTES: Final = 557
CONNECTIONS: Final = 64
ANSWER_SECONDS: Final = 5.0
CATALOG: Final = """\
database = "bench"

[resources.items]
key_type = "string"
fields = { fields = "object" }

[resources.items.lists.shelves]
by = ["shelf"]
"""
"""A page holds one document, so it has 24 bytes more than the document."""
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


@dataclass(frozen=True)
class Spread:
    """Which documents are asked for, one after the other."""

    name: str = "item"
    count: int = DOCUMENTS
    connections: int = CONNECTIONS

    @property
    def pattern(self) -> str:
        return f"{self.name}-%0{4 if self.name == 'item' else 6}d"

    def of(self, number: int) -> str:
        """What is asked for behind the resource, of number so many."""
        return self.pattern % number


EVEN: Final = Spread()
PAGES: Final = Spread("-/lists/shelves?shelf=item")
CALLER: Final = {"Authorization": f"Bearer nsk_benchmark_{'k' * 43}"}
"""What a caller shows where one must; elsewhere just so many bytes."""


@dataclass(frozen=True, slots=True)
class Load:
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int
    requests: int
    cpu_us: float = 0.0
    """CPU time of the server for one request: what else runs on the machine hardly changes it."""


@dataclass(frozen=True, slots=True)
class Peer:
    module: str
    needs: str = "fastapi"
    variables: Mapping[str, str] = field(default_factory=dict)


PEERS: Final = {
    "raw": Peer("raw_asgi"),
    "one-find": Peer("one_find"),
    "least-miss": Peer("least_miss"),
    "naive": Peer("naive"),
    "response_model": Peer("response_model"),
    **{
        f"cashews-{where}": Peer("cashews_app", "cashews", {"PEER_CASHEWS": where})
        for where in ("redis", "client-side", "memory")
    },
    "fastapi_cache2": Peer("fastapi_cache2", "fastapi_cache"),
}


class Bench:
    """The servers that can be asked, by name."""

    def __init__(self, stack: LocalStack, exits: AsyncExitStack, body: str) -> None:
        self.stack = stack
        self._exits = exits
        self._body = body
        self._ports: dict[str, int] = {}
        self._pids: dict[str, int] = {}

    @property
    def catalog(self) -> Path:
        assert self.stack.options.catalog is not None
        return self.stack.options.catalog

    async def load(self, server: str, seconds: int, headers: Mapping[str, str], spread: "Spread") -> Load:
        """What `wrk` finds, and the CPU time that the server used for it; the server must be installed."""
        port = await self.port(server)
        assert port is not None
        before = self._cpu_seconds(server)
        load = await wrk(port, seconds, headers, spread)
        return replace(load, cpu_us=(self._cpu_seconds(server) - before) / max(load.requests, 1) * 1e6)

    async def until_cached(self, server: str, path: str) -> dict[str, Any]:
        """Wait until an answer comes from the cache: a page is kept only once its list is built."""
        port = await self.port(server)
        connection = await Connection.open(f"http://{LOOPBACK}:{port}")
        try:
            while True:
                answer = await connection.get(path, ANSWER_SECONDS)
                if "; hit" in answer.headers.get("cache-status", ""):
                    return {}
                await asyncio.sleep(0.1)
        finally:
            connection.close()

    def _cpu_seconds(self, server: str) -> float:
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
        if server in ("L1", "L2", "callers"):
            variables = {"NEVERSTALE_API__L1_BYTES": "0"} if server == "L2" else {}
            if server == "callers":
                variables = {"NEVERSTALE_CALLERS__KEYS_FILE": str(_keys(self.stack.data / "keys.json"))}
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


def _keys(path: Path) -> Path:
    """A file with the one key that is shown."""
    *_, name, secret = CALLER["Authorization"].split("_")
    key = StaticKey(id=name, name=name, sha256=hashed(secret.encode()), scopes=("read:items",), created=now())
    path.write_text(KeyFile(keys=(key,)).model_dump_json())
    return path


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
                items = client["bench"]["items"]
                shelved = [
                    document(f"item-{number:04}") | {"shelf": f"item-{number:06}"} for number in range(DOCUMENTS)
                ]
                await items.insert_many(shelved)
                await items.create_index({"shelf": 1, "_id": 1})
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
