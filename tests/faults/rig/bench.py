"""The servers that experiments hurt, each started when first asked for and shared by all that come later.

They belong to no event loop, so that every experiment may bring its own. Whoever hurts a server heals it.
"""

import itertools
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from neverstale.ops.stack.kafka.cluster import KafkaCluster, KafkaOptions, start_kafka
from neverstale.ops.stack.mongod import MongodOptions, ReplicaSet, start_mongod
from neverstale.ops.stack.ports import LOOPBACK, free_port
from neverstale.ops.stack.redis import RedisOptions, RedisServer, start_redis
from neverstale.ops.stack.role import RunningRole
from tests.faults.rig.nursery import Nursery

ELECTION_MS = 1000
CHECKPOINT_SECONDS = 1  # the oplog is cut only behind a checkpoint of the storage engine


class Killable(Protocol):
    def kill(self) -> None: ...


K = TypeVar("K", bound=Killable)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker with two listeners, so that the watcher alone can be hurt; or several with one."""

    cluster: KafkaCluster
    watcher_port: int
    """Where the broker tells clients of its second listener to connect: a proxy must stand there."""
    inner_port: int
    """Where that proxy leads to."""

    @property
    def servers(self) -> str:
        return self.cluster.bootstrap_servers

    @property
    def watcher_servers(self) -> str:
        return f"{LOOPBACK}:{self.watcher_port}"


class Bench:
    """All folders and logs are under `data`; without one they are in a temporary folder that goes with the bench.

    `nursery`: roles begin there, which saves most of their start.
    """

    def __init__(self, data: Path | None = None, *, nursery: Nursery | None = None) -> None:
        self._exits = ExitStack()
        self._numbers = itertools.count(1)
        self._shared: dict[str, Any] = {}
        if data is None:
            folder = tempfile.TemporaryDirectory(prefix="neverstale-faults-", ignore_cleanup_errors=True)
            data = Path(self._exits.enter_context(folder))
        (data / "logs").mkdir(parents=True, exist_ok=True)
        self.data = data
        self.role: type[RunningRole] = nursery.role() if nursery else RunningRole

    def name(self, what: str) -> str:
        """A name that nothing else uses: of a database, a topic, a prefix, a process."""
        return f"{what}{next(self._numbers)}-{secrets.token_hex(2)}"

    async def mongod(self) -> ReplicaSet:
        """One member."""
        return await self._share("mongod", self.new_mongod)

    async def replica_set(self) -> ReplicaSet:
        """Three members."""
        return await self._share("replica_set", lambda: self.new_mongod(members=3))

    async def tiny_mongod(self) -> ReplicaSet:
        """One member whose oplog is as small as it gets: some 20 MB of writes roll it over."""
        arguments = ("--syncdelay", str(CHECKPOINT_SECONDS))
        return await self._share("tiny", lambda: self.new_mongod(oplog_mb=1, arguments=arguments))

    async def new_mongod(self, **options: Any) -> ReplicaSet:
        """Its own, with fail points."""
        data = self.data / self.name("mongod")
        wanted = MongodOptions(
            data=data, cache_gb=0.25, election_timeout_ms=ELECTION_MS, test_commands=True, **options
        )
        return self.keep(await start_mongod(wanted))

    async def redis(self) -> RedisServer:
        return await self._share("redis", self.new_redis)

    async def new_redis(self, **options: Any) -> RedisServer:
        return self.keep(await start_redis(RedisOptions(data=self.data, name=self.name("redis"), **options)))

    async def kafka(self) -> Broker:
        return await self._share("kafka", self.new_kafka)

    async def new_kafka(self) -> Broker:
        port, watcher_port, inner_port, controller_port = (free_port() for _ in range(4))
        # Later lines of a properties file win over earlier ones.
        properties = (
            f"listeners=PLAINTEXT://{LOOPBACK}:{port},WATCHER://{LOOPBACK}:{inner_port},"
            f"CONTROLLER://{LOOPBACK}:{controller_port}",
            f"advertised.listeners=PLAINTEXT://{LOOPBACK}:{port},WATCHER://{LOOPBACK}:{watcher_port}",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,WATCHER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=PLAINTEXT",
            f"controller.quorum.voters=1@{LOOPBACK}:{controller_port}",
            "log.retention.check.interval.ms=1000",
            "group.min.session.timeout.ms=500",
        )
        options = KafkaOptions(data=self.data / self.name("kafka"), port=port, properties=properties)
        return Broker(self.keep(await start_kafka(options)), watcher_port, inner_port)

    async def kafka_pair(self) -> Broker:
        """Two brokers, each with a copy of everything and without a second listener."""
        return await self._share("kafka_pair", self.new_kafka_pair)

    async def new_kafka_pair(self) -> Broker:
        properties = ("group.min.session.timeout.ms=500",)
        options = KafkaOptions(data=self.data / self.name("kafka"), brokers=2, properties=properties)
        return Broker(self.keep(await start_kafka(options)), 0, 0)

    def keep(self, server: K) -> K:
        """See that it is gone at the end."""
        self._exits.callback(server.kill)
        return server

    async def _share(self, name: str, start: Callable[[], Awaitable[T]]) -> T:
        if name not in self._shared:
            self._shared[name] = await start()
        return cast("T", self._shared[name])

    def close(self) -> None:
        self._exits.close()
