"""Apache Kafka as local KRaft brokers, each its own controller too."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.group import ProcessGroup, start_members
from neverstale.ops.stack.kafka.class_archive import archive_of, making
from neverstale.ops.stack.kafka.formatting import format_new_folders
from neverstale.ops.stack.kafka.jvm import Jvm
from neverstale.ops.stack.kafka.libs import KAFKA_VERSION, LEAST_JAVA, cached_libs, fetch_libs, find_java
from neverstale.ops.stack.kafka.node import Node
from neverstale.ops.stack.ports import LOOPBACK, free_port, listens, wanted_port
from neverstale.ops.stack.process import POLL_SECONDS, Launch, RunningProcess

REMEDY = f"install a Java of version {LEAST_JAVA} or later, or use --broker embedded"
SERVING_SECONDS = 60.0
ARCHIVE_SECONDS = 60.0  # to write some 50 MB


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


async def start_kafka(options: KafkaOptions) -> KafkaCluster:
    """Brokers that serve; data of an earlier run are used again, whatever its ports were.

    The first start with a Java and jars takes some seconds more, for what makes all later ones quick.

    Raises:
        StackError: no Java, no jars and no way to fetch them, a port is taken, or a broker did not start.
    """
    java = find_java()
    if java is None:
        raise StackError(f"Apache Kafka needs Java {LEAST_JAVA}, which is not here", REMEDY)
    wanted_port(options.port, "--kafka-port")
    jvm = Jvm(java, cached_libs() or await fetch_libs())
    archive = archive_of(jvm)
    await _make(archive, jvm)
    return await _start(jvm.reading(archive), options)


async def _make(archive: Path, jvm: Jvm) -> None:
    """Write the archive if it is not here. A broker that does not start for it will say why when it starts for us."""
    with contextlib.suppress(StackError), making(archive) as folder:
        if folder is not None:
            cluster = await _start(jvm.writing(folder / archive.name), KafkaOptions(data=folder))
            await cluster.stop(ARCHIVE_SECONDS)
            if cluster.members[0].exit_code == -Signals.SIGKILL:
                raise StackError("Kafka's classes took too long to be written", REMEDY)


async def _start(jvm: Jvm, options: KafkaOptions) -> KafkaCluster:
    first = wanted_port(options.port, "--kafka-port")
    ports = [first, *(free_port() for _ in range(options.brokers - 1))]
    nodes = [
        Node(number, port, free_port(), options.data / f"kafka-{number}") for number, port in enumerate(ports, 1)
    ]
    for node in nodes:  # they carry this run's ports
        node.folder.mkdir(parents=True, exist_ok=True)
        node.properties.write_text(_properties(node, nodes, options))
    await format_new_folders(jvm, nodes, options.data)
    cluster = KafkaCluster(await start_members([_launch(jvm, node, options) for node in nodes]), options.client)
    try:
        await cluster.until_serving()
    except BaseException:
        cluster.kill()
        raise
    return cluster


def _launch(jvm: Jvm, node: Node, options: KafkaOptions) -> Launch:
    return Launch(
        name="kafka" if options.brokers == 1 else f"kafka-{node.number}",
        argv=jvm.command("kafka.Kafka", node.properties),
        log=node.log,
        ready=partial(listens, node.port),
        ports=(node.port, node.controller_port),
    )


def _properties(node: Node, nodes: Sequence[Node], options: KafkaOptions) -> str:
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
        # Twice a second the controller would note that nothing happens; that is a quarter of an idle broker's work.
        "metadata.max.idle.interval.ms=5000",
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
