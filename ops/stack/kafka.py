"""Apache Kafka as local KRaft brokers, each its own controller too."""

import asyncio
import base64
import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.group import ProcessGroup, start_members
from neverstale.ops.stack.kafka_libs import (
    KAFKA_VERSION,
    LEAST_JAVA,
    cached_libs,
    fetch_libs,
    find_java,
    kept_features,
)
from neverstale.ops.stack.ports import LOOPBACK, free_port, listens, wanted_port
from neverstale.ops.stack.process import POLL_SECONDS, Launch, RunningProcess, together

JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    # Neither pays: the second compiler takes longer than a local broker lives, and pauses and half a core; verifying
    # released classes is a seventh of each start, where the JVM lets itself be told.
    "-XX:TieredStopAtLevel=1",
    *("-XX:+IgnoreUnrecognizedVMOptions", "-XX:+UnlockDiagnosticVMOptions", "-XX:-BytecodeVerificationRemote"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
REMEDY = f"install a Java of version {LEAST_JAVA} or later, or use --broker embedded"
SERVING_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaOptions:
    data: Path
    port: int = 0  # of the first broker; 0: a free one
    brokers: int = 1
    properties: tuple[str, ...] = ()  # further lines of server.properties
    listener: str = "PLAINTEXT"  # its name; another one needs further lines, and a client that knows its ways
    more_listeners: str = ""  # NAME://host:port, after a comma
    client: Mapping[str, Any] = field(default_factory=dict)  # how aiokafka gets in


class KafkaCluster(ProcessGroup):
    """Running brokers that know each other. Topics and groups survive `stop` in the data folder."""

    kind = "kafka"
    description = f"Apache Kafka {KAFKA_VERSION}"

    def __init__(self, members: Sequence[RunningProcess], client: Mapping[str, Any]) -> None:
        super().__init__(members)
        self._client = client

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{LOOPBACK}:{member.ports[0]}" for member in self.members)

    async def until_serving(self) -> None:
        """Wait until every broker is registered: an open port alone does not promise that."""
        deadline = time.monotonic() + SERVING_SECONDS
        while await registered_brokers(self.bootstrap_servers, self._client) < len(self.members):
            if time.monotonic() > deadline:
                problem = f"Kafka's brokers did not find each other within {SERVING_SECONDS:g} s"
                raise StackError(problem, f"their logs say more: {self.members[0].log.parent}")
            await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class _Node:
    number: int
    port: int
    controller_port: int
    folder: Path

    @property
    def voter(self) -> str:
        return f"{self.number}@{LOOPBACK}:{self.controller_port}"

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def log_dirs(self) -> Path:
        return self.folder / "log"

    @property
    def identity(self) -> Path:
        """What makes a folder a formatted one."""
        return self.log_dirs / "meta.properties"

    @property
    def features(self) -> Path:
        """What the cluster begins with; the same for all of a release."""
        return self.log_dirs / "bootstrap.checkpoint"


async def start_kafka(options: KafkaOptions) -> KafkaCluster:
    """Brokers that serve; data of an earlier run are used again, whatever its ports were.

    Raises:
        StackError: no Java, no jars and no way to fetch them, a port is taken, or a broker did not start.
    """
    java = find_java()
    if java is None:
        raise StackError(f"Apache Kafka needs Java {LEAST_JAVA}, which is not here", REMEDY)
    first = wanted_port(options.port, "--kafka-port")
    libs = cached_libs() or await fetch_libs()
    ports = [first, *(free_port() for _ in range(options.brokers - 1))]
    nodes = [
        _Node(number, port, free_port(), options.data / f"kafka-{number}") for number, port in enumerate(ports, 1)
    ]
    command = (java, "-cp", f"{libs}/*")
    await _format(command, nodes, options, kept_features(libs))
    members = await start_members([_launch(command, node, options) for node in nodes])
    cluster = KafkaCluster(members, options.client)
    try:
        await cluster.until_serving()
    except BaseException:
        cluster.kill()
        raise
    return cluster


async def _format(command: Sequence[str | Path], nodes: Sequence[_Node], options: KafkaOptions, kept: Path) -> None:
    """Write every node's properties, which carry this run's ports, and format the folders that are new."""
    for node in nodes:
        node.folder.mkdir(parents=True, exist_ok=True)
        node.properties.write_text(_properties(node, nodes, options))
    cluster_id = _cluster_id(options.data / "kafka-cluster-id")
    await together(
        *(_format_node(command, node, cluster_id, options, kept) for node in nodes if not node.identity.exists()),
    )


async def _format_node(
    command: Sequence[str | Path], node: _Node, cluster_id: str, options: KafkaOptions, kept: Path
) -> None:
    """With Kafka's own tool, which takes a JVM of its own, only the first time: what it writes is kept."""
    if not _format_from(kept, node, cluster_id):
        await _run_storage_tool(command, node, cluster_id, options)
        _keep(node.features, kept)


def _format_from(kept: Path, node: _Node, cluster_id: str) -> bool:
    """False: nothing is kept yet."""
    if not kept.exists():
        return False
    node.log_dirs.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(kept, node.features)
    lines = ("version=1", f"cluster.id={cluster_id}", f"node.id={node.number}", f"directory.id={_new_id()}")
    node.identity.write_text("\n".join(lines) + "\n")
    return True


def _keep(features: Path, kept: Path) -> None:
    """Whole or not at all. Where nothing can be written, the tool runs the next time, too."""
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".keep-") as folder:
            shutil.copyfile(features, Path(folder, kept.name)).replace(kept)


async def _run_storage_tool(
    command: Sequence[str | Path], node: _Node, cluster_id: str, options: KafkaOptions
) -> None:
    async def formatted() -> bool:
        return run.exit_code == 0

    tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", node.properties)
    launch = Launch(
        name=f"kafka-{node.number}-format",
        argv=[command[0], *JVM, *command[1:], *tool],
        log=options.data / "logs" / f"kafka-{node.number}.log",
        ready=formatted,
    )
    run = RunningProcess(launch)
    try:
        await run.until_ready()
    finally:
        run.kill()


def _launch(command: Sequence[str | Path], node: _Node, options: KafkaOptions) -> Launch:
    return Launch(
        name="kafka" if options.brokers == 1 else f"kafka-{node.number}",
        argv=[command[0], *JVM, *command[1:], "kafka.Kafka", node.properties],
        log=options.data / "logs" / f"kafka-{node.number}.log",
        ready=partial(listens, node.port),
        ports=(node.port, node.controller_port),
    )


def _properties(node: _Node, nodes: Sequence[_Node], options: KafkaOptions) -> str:
    copies = min(len(nodes), 3)
    listener = f"{options.listener}://{LOOPBACK}:{node.port}{options.more_listeners}"
    lines = [
        "process.roles=broker,controller",
        f"node.id={node.number}",
        f"controller.quorum.voters={','.join(each.voter for each in nodes)}",
        "controller.listener.names=CONTROLLER",
        f"listeners={listener},CONTROLLER://{LOOPBACK}:{node.controller_port}",
        f"advertised.listeners={listener}",
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        f"log.dirs={node.log_dirs}",
        # A killed broker may register again only when its old session has run out; the default is 9 s.
        "broker.heartbeat.interval.ms=500",
        "broker.session.timeout.ms=3000",
        "auto.create.topics.enable=false",
        "group.initial.rebalance.delay.ms=0",
        "offsets.topic.num.partitions=8",
        f"offsets.topic.replication.factor={copies}",
        f"transaction.state.log.replication.factor={copies}",
        f"transaction.state.log.min.isr={max(copies - 1, 1)}",
        f"default.replication.factor={copies}",
        f"min.insync.replicas={max(copies - 1, 1)}",
        *options.properties,
    ]
    return "\n".join(lines) + "\n"


def _cluster_id(file: Path) -> str:
    """The cluster's name, made once a data folder."""
    if not file.exists():
        file.write_text(_new_id())
    return file.read_text()


def _new_id() -> str:
    """As Kafka spells them: 16 random bytes in unpadded base64."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


async def registered_brokers(bootstrap_servers: str, options: Mapping[str, Any]) -> int:
    """How many brokers the cluster knows; 0 while none answers."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers, **options)
    try:
        await client.bootstrap()
        return len(client.cluster.brokers())
    except KafkaError:
        return 0
    finally:
        await client.close()
