"""Watcher, consumers and API of ours as processes, against servers that the experiment chooses."""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any, Final

import orjson
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode

from neverstale.catalog import Catalog
from neverstale.ops.http_client import Connection
from neverstale.ops.stack.ports import answers_http, free_port
from neverstale.ops.stack.process import Launch, python
from neverstale.ops.stack.role import Role, RunningRole
from neverstale.settings import Settings
from neverstale.settings.sources import load
from tests.faults.rig.bench import Bench, Broker
from tests.faults.rig.sabotage import SEPARATOR

RESOURCE: Final = "things"
GONE_SECONDS: Final = 15.0
CATALOG: Final = """
database = "{database}"

[resources.things]
key_type = "int"
on_change = "{on_change}"
"""


@dataclass
class Pipeline:
    """One catalog, topic, group and prefix; the roles that were started."""

    bench: Bench
    name: str
    """Of the database, the topic, the group, and of the prefix in Redis."""
    broker: Broker
    redis_url: str
    """Of the Redis that tells how far changes are applied."""
    rule: str | None
    """Taken away in every role."""
    environment: dict[str, str]
    consumer_group: str
    """Of those who apply the changes of `RESOURCE`."""
    roles: list[RunningRole] = field(default_factory=list)

    async def start(self, role: Role, *injected: str, **variables: str) -> RunningRole:
        """Start a role with further NEVERSTALE_ variables, given without that prefix."""
        name, port = self.bench.name(f"{role}-"), free_port()
        rules = [*injected, *([self.rule] if self.rule else [])]
        port_variable = "API__PORT" if role == "api" else "SERVICE__PORT"
        command = ("tests.faults.rig.sabotage", SEPARATOR.join(rules)) if rules else ("neverstale.ops.cli",)
        launch = Launch(
            name=name,
            argv=python(*command, "run", role),
            log=self.bench.data / "logs" / f"{name}.log",
            ready=partial(answers_http, port, "/readyz"),
            ports=(port,),
            env=self._variables(self.environment | variables | {port_variable: str(port)}),
            ready_seconds=60,
            death_signal=Signals.SIGTERM,
        )
        running = await self.bench.role.start(launch)
        self.roles.append(running)
        return running

    async def start_all(self, **variables: str) -> tuple[RunningRole, RunningRole, RunningRole]:
        """A watcher, a consumer and an API."""
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(self.start("watcher", **variables))
            consumer = group.create_task(self.start("consumer", **variables))
            api = group.create_task(self.start("api", **variables))
        return watcher.result(), consumer.result(), api.result()

    def _variables(self, values: Mapping[str, str]) -> dict[str, str]:
        return {f"NEVERSTALE_{name}": value for name, value in values.items()}

    def variables(self) -> dict[str, str]:
        """The environment of a command of ours that is to work with this pipeline."""
        return {**os.environ, **self._variables(self.environment)}

    def configured(self) -> tuple[Settings, Catalog]:
        """What a command of ours is given that is to work with this pipeline."""
        return load(self._variables(self.environment))[0], Catalog.load(Path(self.environment["CATALOG"]))

    async def watermark(self) -> int:
        """The version up to which all partitions are applied, as Redis has it; 0: not known.

        Read from the stored hash itself, field by field, so that the oracle does not share the reader's code:
        partition -> 16 hex digits of the version, and more behind a colon; beside them what was covered.
        """
        async with _connected(self.redis_url) as redis:
            return await self._watermark(redis)

    async def _watermark(self, redis: Any) -> int:
        count, versions = await self._by_partition(redis)
        return min(versions.values()) if count and len(versions) == count else 0

    async def by_partition(self) -> dict[int, int]:
        """The same of each partition, as far as it is known."""
        async with _connected(self.redis_url) as redis:
            return (await self._by_partition(redis))[1]

    async def _by_partition(self, redis: Any) -> tuple[int, dict[int, int]]:
        try:
            fields = await self._held(redis)
        except Exception:  # whatever is wrong with Redis, then nothing is known
            return 0, {}
        count = int(fields.pop(b"partitions", b"0"))
        held = {int(number): text for number, text in fields.items() if number.isdigit()}
        return count, {at: int(text.split(b":")[0], 16) for at, text in held.items() if at < count}

    async def _held(self, redis: Any) -> dict[Any, Any]:
        """Where each partition has a cell of its own, its watermark stands there."""
        told = await redis.hgetall(f"{self.name}:partitions:default")
        if not told:
            found: dict[Any, Any] = await redis.hgetall(f"{self.name}:watermarks:{self.consumer_group}")
            return found
        _, count = max((text.split(b":")[1], int(text.split(b":")[0])) for text in told.values())
        fields = {b"partitions": str(count).encode()}
        for partition in range(count):
            cell = f"{self.name}:{{default.{count}.{partition}}}"
            held = await redis.hget(f"{cell}:watermarks:{self.name}", str(partition))
            if held is not None:
                fields[str(partition).encode()] = held
        return fields

    async def passed(self, version: int, seconds: float) -> float | None:
        """Seconds until everything up to a version is applied; `None`: not within `seconds`."""
        started = time.monotonic()
        async with _connected(self.redis_url) as redis:  # to make one is most of the work of a look
            while await self._watermark(redis) < version:
                if time.monotonic() - started > seconds:
                    return None
                await asyncio.sleep(0.02)
        return time.monotonic() - started


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    """A client that connects, again and again if need be, when it is asked something."""
    client = _client(url)
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):
            await client.aclose()


def _client(url: str) -> Any:
    if not url.startswith("redis+cluster://"):
        return Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1)
    nodes = [node.rpartition(":") for node in url.removeprefix("redis+cluster://").split(",")]
    known = [ClusterNode(host, int(port)) for host, _, port in nodes]
    return RedisCluster(startup_nodes=known, socket_timeout=1, socket_connect_timeout=1, require_full_coverage=False)


@contextlib.asynccontextmanager
async def pipeline(
    bench: Bench,
    rule: str | None,
    *,
    mongo_uri: str | None = None,
    redis_url: str | None = None,
    broker: Broker | None = None,
    on_change: str = "auto",
    partitions: int = 4,
    cells: str = "",
    declared: str = "",
) -> AsyncIterator[Pipeline]:
    """No role runs yet; those that were started are gone at the end. `declared`: more of the catalog."""
    name = bench.name("pipe")
    catalog = bench.data / f"{name}.toml"
    catalog.write_text((CATALOG + declared).format(database=name, on_change=on_change))
    broker = broker or await bench.kafka()
    redis_url = redis_url or (await bench.redis()).url
    environment = {
        "CATALOG": str(catalog),
        "MONGODB__URI": mongo_uri or (await bench.mongod()).uri,
        "KAFKA__BOOTSTRAP_SERVERS": broker.servers,
        "KAFKA__TOPIC": name,
        "KAFKA__GROUP": name,
        "KAFKA__PARTITIONS": str(partitions),
        "KAFKA__REPLICATION_FACTOR": str(len(broker.cluster.members)),
        "KAFKA__SESSION_TIMEOUT_MS": "2000",
        "REDIS__URL": redis_url,
        "REDIS__PREFIX": name,
        "WATCHER__HEARTBEAT_MS": "300",
        "WATCHER__MAX_AWAIT_MS": "200",
        "SERVICE__LOG_FORMAT": "json",
        "API__PUBLIC_PAGES": "all",
    }
    if cells:
        environment["REDIS__CELLS"] = cells
    made = Pipeline(bench, name, broker, redis_url, rule, environment, name)
    try:
        yield made
    finally:
        for role in made.roles:
            role.kill()


async def metrics(role: RunningRole) -> dict[str, float]:
    """What a role counts, summed over labels; also each labelled line by itself."""
    connection = await Connection.open(role.url)
    try:
        answer = await connection.get("/metrics", 5)
    finally:
        connection.close()
    assert answer.status == 200, f"{role.name} shows no metrics: {answer.status}"
    found: dict[str, float] = {}
    for line in re.findall(r"^(neverstale_\S+) (\S+)$", answer.body.decode(), re.MULTILINE):
        name, value = line[0], float(line[1])
        found[name] = value
        if "{" in name:
            bare = name[: name.index("{")]
            found[bare] = found.get(bare, 0) + value
    return found


async def ready(role: RunningRole) -> dict[str, str]:
    """What a role says about its parts."""
    connection = await Connection.open(role.url)
    try:
        answer: dict[str, dict[str, str]] = orjson.loads((await connection.get("/readyz", 5)).body)
    finally:
        connection.close()
    return answer["parts"]
