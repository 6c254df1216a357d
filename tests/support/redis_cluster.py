"""A Redis Cluster of local processes: masters that share the slots, and a replica of each."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from neverstale.ops.stack.ports import LOOPBACK, free_port
from neverstale.ops.stack.redis import RedisOptions, RedisServer, start_redis
from tests.support.waiting import eventually

SLOTS: Final = 16_384
NODE_TIMEOUT_MS: Final = 1_000
MIGRATED_AT_ONCE: Final = 100


@dataclass
class RedisCluster:
    """`nodes`: the first ones are masters at the beginning."""

    data: Path
    prefix: str
    more: Callable[[], tuple[str, ...]] = tuple
    """Further arguments of each node."""
    nodes: list[RedisServer] = field(default_factory=list)

    @classmethod
    async def start(
        cls, data: Path, masters: int = 3, replicas: int = 1, prefix: str = "cluster", **more: Any
    ) -> Self:
        """A cluster that is ready."""
        made = cls(data, prefix, **more)
        try:
            await asyncio.gather(*(made.add() for _ in range(masters * (1 + replicas))))
            await made._join(masters)
        except BaseException:
            made.kill()
            raise
        return made

    async def add(self) -> RedisServer:
        """One more node, alone as yet."""
        name = f"{self.prefix}-{len(self.nodes)}-{free_port()}"
        options = RedisOptions(data=self.data, name=name, arguments=(*cluster_arguments(free_port()), *self.more()))
        node = await start_redis(options)
        self.nodes.append(node)
        return node

    async def _join(self, masters: int) -> None:
        first, *others = self.nodes
        share = SLOTS // masters
        for number, node in enumerate(self.nodes[:masters]):
            end = SLOTS - 1 if number == masters - 1 else (number + 1) * share - 1
            await ask(node, "CLUSTER", "ADDSLOTSRANGE", number * share, end)
        for node in others:
            await ask(node, "CLUSTER", "MEET", LOOPBACK, first.port, first_bus(first))
        await eventually(lambda: self._knows(len(self.nodes)), "all nodes know one another", 30)
        for number, node in enumerate(self.nodes[masters:]):
            await self.follow(node, self.nodes[number % masters])
        await eventually(self.is_whole, "the cluster is whole", 30)

    async def meet(self, node: RedisServer) -> None:
        """A node that was added becomes one of them."""
        first = self.nodes[0]
        await ask(node, "CLUSTER", "MEET", LOOPBACK, first.port, first_bus(first))
        await eventually(lambda: self._knows(len(self.nodes)), "all nodes know one another", 30)

    async def follow(self, node: RedisServer, master: RedisServer) -> None:
        """`node` becomes a replica, as soon as it has heard of its master."""
        own = (await ask(master, "CLUSTER", "MYID")).decode()

        async def followed() -> bool:
            try:
                return bool(await ask(node, "CLUSTER", "REPLICATE", own))
            except RedisError:
                return False

        await eventually(followed, "a node follows its master", 30)
        await eventually(lambda: _is_in_step(node), "a replica has what its master has", 30)

    async def _knows(self, count: int) -> bool:
        infos = [await ask(node, "CLUSTER", "INFO") for node in self.nodes]
        return all(f"cluster_known_nodes:{count}".encode() in _text(info) for info in infos)

    async def is_whole(self) -> bool:
        """Every slot is held, in the eyes of every node that lives."""
        try:
            infos = [await ask(node, "CLUSTER", "INFO") for node in self.living]
        except (RedisError, OSError):
            return False
        return all(b"cluster_state:ok" in _text(info) for info in infos)

    @property
    def living(self) -> list[RedisServer]:
        return [node for node in self.nodes if node.alive]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{node.port}" for node in self.nodes[:3])

    async def owner(self, slot: int) -> RedisServer:
        """The node that holds a slot, as the first that lives sees it."""
        for first, last, (_, port, *_), *_ in await ask(self.living[0], "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise LookupError(f"nobody holds {slot}")

    async def replicas_of(self, master: RedisServer) -> list[RedisServer]:
        own = (await ask(master, "CLUSTER", "MYID")).decode()
        lines = _text(await ask(self.living[0], "CLUSTER", "NODES")).decode().splitlines()
        ports = {int(line.split()[1].split("@")[0].rpartition(":")[2]) for line in lines if line.split()[3] == own}
        return [node for node in self.living if node.port in ports]

    async def move(self, slot: int, to: RedisServer, pause: float = 0.0) -> None:
        """Move a slot with all its keys, as redis-cli does; between two portions it waits."""
        source = await self.owner(slot)
        if source is to:
            return
        ids = {node: (await ask(node, "CLUSTER", "MYID")).decode() for node in (source, to)}
        await ask(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        await ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])
        while keys := await ask(source, "CLUSTER", "GETKEYSINSLOT", slot, MIGRATED_AT_ONCE):
            await ask(source, "MIGRATE", LOOPBACK, to.port, "", 0, 5000, "KEYS", *keys)
            await asyncio.sleep(pause)
        for node in (to, source, *self.living):
            try:
                await ask(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[to])
            except RedisError:
                continue  # a replica learns it from its master

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


def cluster_arguments(bus: int) -> tuple[str, ...]:
    """What makes a redis-server a node."""
    return (
        *("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
        *("--cluster-replica-no-failover", "yes", "--cluster-require-full-coverage", "no"),
        *("--cluster-allow-replica-migration", "no", "--repl-ping-replica-period", "1"),
    )


def first_bus(node: RedisServer) -> int:
    """The port at which other nodes find it."""
    return port_of(node, "--cluster-port")


def port_of(node: RedisServer, argument: str) -> int:
    arguments = list(map(str, node.launch.argv))
    return int(arguments[arguments.index(argument) + 1])


async def ask(node: RedisServer, *command: Any) -> Any:
    """One command to one node."""
    async with Redis(host=LOOPBACK, port=node.port, socket_timeout=5, socket_connect_timeout=1) as client:
        pool: Any = client.connection_pool
        connection = pool.make_connection()
        await connection.connect()
        try:
            await connection.send_command(*command)
            return await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)


async def _is_in_step(node: RedisServer) -> bool:
    return b"master_link_status:up" in _text(await ask(node, "INFO", "replication"))


def _text(reply: Any) -> bytes:
    return reply if isinstance(reply, bytes) else str(reply).encode()


@asynccontextmanager
async def redis_cluster(data: Path, **options: Any) -> AsyncIterator[RedisCluster]:
    made = await RedisCluster.start(data, **options)
    try:
        yield made
    finally:
        made.kill()
