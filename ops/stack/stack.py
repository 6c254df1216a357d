"""The whole local stack: three servers and as many roles as are asked for, all gone at the end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Self, TypeVar

from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.ops.stack.broker import Broker, BrokerChoice, BrokerOptions, start_broker
from neverstale.ops.stack.folder import data_folder
from neverstale.ops.stack.group import ProcessGroup
from neverstale.ops.stack.mongod import MongodOptions, ReplicaSet, start_mongod
from neverstale.ops.stack.ports import LOOPBACK, free_port, wanted_port
from neverstale.ops.stack.process import STOP_SECONDS, RunningProcess, at_once, together
from neverstale.ops.stack.redis import Flavour, RedisOptions, RedisServer, start_redis
from neverstale.ops.stack.role import Role, RoleOptions, RunningRole, start_role
from neverstale.ops.up_settings import blank

ROLE_STOP_SECONDS = 15.0  # more than a role allows itself for draining
WATCH_SECONDS = 0.1
EMBEDDED_FETCH_WAIT_MS = 10  # the embedded broker does not wake a waiting fetch when records arrive

Server = TypeVar("Server", bound=ReplicaSet | Broker | RedisServer)


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """A port of 0 is a free one. Without `data`, data live in a temporary folder that goes with the stack."""

    data: Path | None = None
    catalog: Path | None = None
    api_port: int = 0
    mongo_port: int = 0
    kafka_port: int = 0
    redis_port: int = 0
    console_port: int = 0
    broker: BrokerChoice = "auto"
    brokers: int = 1
    mongo_members: int = 1
    mongo_oplog_mb: int | None = None
    mongo_test_commands: bool = False
    redis_flavour: Flavour = "any"
    redis_max_memory: str | None = None
    role_stop_seconds: float = ROLE_STOP_SECONDS


@dataclass(frozen=True, slots=True)
class Step:
    """News of one part, while the stack starts and stops."""

    part: str
    state: Literal["starting", "ready", "stopping", "stopped"]
    detail: str = ""


Report = Callable[[Step], None]


def silent(_: Step) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class LocalStack:
    """Running servers, and roles on top of them.

    Its parts may be killed, frozen and restarted one by one; whatever still runs is stopped at the end.
    """

    options: StackOptions
    report: Report
    data: Path
    api_port: int
    console_port: int
    mongod: ReplicaSet
    kafka: Broker
    redis: RedisServer
    roles: list[RunningRole] = field(default_factory=list)
    _started: Counter[Role] = field(default_factory=Counter)

    @classmethod
    @asynccontextmanager
    async def start(cls, options: StackOptions, report: Report = silent) -> AsyncIterator[Self]:
        """Start MongoDB, Kafka and Redis at the same time; at the end stop the roles, then the servers.

        Raises:
            StackError: a server is missing or did not start, its port is taken, or the data are in use.
        """
        async with AsyncExitStack() as exits:
            data = exits.enter_context(data_folder(options.data))
            api_port = wanted_port(options.api_port, "--api-port")
            console_port = wanted_port(options.console_port, "--console-port")
            grace = STOP_SECONDS if options.data else 0.0  # a temporary folder is not worth a clean shutdown

            async def serve(part: str, start: Callable[[], Awaitable[Server]]) -> Server:
                report(Step(part, "starting"))
                server = await start()
                exits.push_async_callback(_stop, part, server, grace, report)
                report(Step(part, "ready", server.description))
                return server

            async with at_once() as group:
                mongod = group.create_task(serve("MongoDB", partial(start_mongod, _mongod(options, data))))
                kafka = group.create_task(serve("Kafka", partial(start_broker, _broker(options, data))))
                redis = group.create_task(serve("Redis", partial(start_redis, _redis(options, data))))
            started = mongod.result(), kafka.result(), redis.result()
            stack = cls(options, report, data, api_port, console_port, *started)
            exits.push_async_callback(stack.stop_roles)
            yield stack

    @property
    def mongo_uri(self) -> str:
        return self.mongod.uri

    @property
    def bootstrap_servers(self) -> str:
        return self.kafka.bootstrap_servers

    @property
    def redis_url(self) -> str:
        return self.redis.url

    @property
    def api_url(self) -> str:
        return f"http://{LOOPBACK}:{self.api_port}"

    @property
    def console_url(self) -> str:
        return f"http://{LOOPBACK}:{self.console_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that let a process of ours use this stack."""
        variables = blank() | {
            "NEVERSTALE_MONGODB__URI": self.mongo_uri,
            "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "NEVERSTALE_KAFKA__REPLICATION_FACTOR": str(min(self.options.brokers, 3)),
            "NEVERSTALE_REDIS__URL": self.redis_url,
            "NEVERSTALE_API__HOST": LOOPBACK,
            "NEVERSTALE_API__PORT": str(self.api_port),
            "NEVERSTALE_CONSOLE__HOST": LOOPBACK,
            "NEVERSTALE_CONSOLE__PORT": str(self.console_port),
        }
        if self.kafka.kind == "embedded":
            variables["NEVERSTALE_KAFKA__FETCH_MAX_WAIT_MS"] = str(EMBEDDED_FETCH_WAIT_MS)
        if self.options.catalog is not None:
            variables["NEVERSTALE_CATALOG"] = str(self.options.catalog.resolve())
        return variables

    @property
    def processes(self) -> list[RunningProcess]:
        """Every process of the stack, roles last."""
        return [*self.mongod.members, *self.kafka.members, self.redis, *self.roles]

    async def start_role(self, role: Role, **variables: str) -> RunningRole:
        """Start `neverstale run <role>` against this stack, with further NEVERSTALE_ `variables`.

        Raises:
            StackError: it exited or did not become ready in time.
        """
        self._started[role] += 1  # before the first await: several may be starting
        name = f"{role}-{self._started[role]}"
        port = {"api-1": self.api_port, "console-1": self.console_port}.get(name) or free_port()
        self.report(Step(name, "starting"))
        options = RoleOptions(
            role=role, name=name, data=self.data, port=port, environment=self.environment | variables
        )
        running = await start_role(options)
        self.roles.append(running)
        self.report(Step(name, "ready", running.url))
        return running

    async def start_roles(
        self, consumers: int = 1, api_workers: int = 1, watchers: Sequence[str] = (DEFAULT_GROUP,), **variables: str
    ) -> None:
        """A watcher for each of these watcher groups, the consumers, the API and the console, with further
        `NEVERSTALE_` variables."""
        async with at_once() as group:
            for name in watchers:
                group.create_task(self.start_role("watcher", NEVERSTALE_WATCHER__WATCHES=name, **variables))
            for _ in range(consumers):
                group.create_task(self.start_role("consumer", **variables))
            group.create_task(self.start_role("console", **variables))
            group.create_task(self.start_role("api", NEVERSTALE_API__WORKERS=str(api_workers), **variables))

    async def stop_roles(self) -> None:
        """Ask every role to drain and end; end those by force that do not."""
        await together(*(_stop(role.name, role, self.options.role_stop_seconds, self.report) for role in self.roles))

    async def first_death(self) -> RunningProcess:
        """Wait until a process of the stack ends by itself, and return it."""
        while True:
            for process in self.processes:
                if not process.alive:
                    return process
            await asyncio.sleep(WATCH_SECONDS)

    def kill(self) -> None:
        """End everything at once."""
        for process in reversed(self.processes):
            process.kill()


async def _stop(part: str, server: ProcessGroup | RunningProcess, grace: float, report: Report) -> None:
    report(Step(part, "stopping"))
    await server.stop(grace)
    report(Step(part, "stopped"))


def _mongod(options: StackOptions, data: Path) -> MongodOptions:
    return MongodOptions(
        data=data,
        port=options.mongo_port,
        members=options.mongo_members,
        oplog_mb=options.mongo_oplog_mb,
        test_commands=options.mongo_test_commands,
    )


def _broker(options: StackOptions, data: Path) -> BrokerOptions:
    return BrokerOptions(data=data, choice=options.broker, port=options.kafka_port, brokers=options.brokers)


def _redis(options: StackOptions, data: Path) -> RedisOptions:
    return RedisOptions(
        data=data,
        port=options.redis_port,
        flavour=options.redis_flavour,
        max_memory=options.redis_max_memory,
    )
