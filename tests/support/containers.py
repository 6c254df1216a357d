"""The three servers in containers, for `--stack=containers`; a Docker engine must answer.

Every server listens on the same port inside and outside of its container, so the address that it tells its
clients is right for both. None has a password, so all are published on loopback only.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property, partial

import yaml
from docker.errors import DockerException
from pymongo.errors import PyMongoError
from testcontainers.core.container import DockerContainer

from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.kafka.cluster import registered_brokers
from neverstale.ops.stack.mongod import REPLICA_SET, form_replica_set, is_primary
from neverstale.ops.stack.ports import LOOPBACK, answers_ping, free_port
from tests.support.project import ROOT
from tests.support.stack import run
from tests.support.waiting import eventually

COMPOSE_FILE = ROOT / "docker-compose.yml"
START_SECONDS = 60.0
ELECTION_TIMEOUT_MS = 2000


class ContainerServers:
    """Containers that go when the tests end."""

    def __init__(self) -> None:
        self._exits = ExitStack()

    def mongo_uri(self) -> str:
        return f"mongodb://{LOOPBACK}:{self._mongod}/?replicaSet={REPLICA_SET}"

    def kafka_servers(self) -> str:
        return f"{LOOPBACK}:{self._kafka}"

    def redis_url(self) -> str:
        return f"redis://{LOOPBACK}:{self._redis}/0"

    def delete_topic(self, topic: str) -> None:
        return None

    def stop(self) -> None:
        self._exits.close()

    @cached_property
    def _mongod(self) -> int:
        port = free_port()
        command = ["--replSet", REPLICA_SET, "--bind_ip_all", "--port", str(port)]
        self._start("mongo", port, [*command, "--setParameter", "enableTestCommands=1"])
        run(eventually(partial(_takes_writes, port), "mongod takes writes", START_SECONDS))
        return port

    @cached_property
    def _kafka(self) -> int:
        port = free_port()
        self._start("kafka", port, environment=_kafka_environment(port))

        async def serves() -> bool:
            return await registered_brokers(f"{LOOPBACK}:{port}", {}) == 1

        run(eventually(serves, "Kafka serves", START_SECONDS))
        return port

    @cached_property
    def _redis(self) -> int:
        port = free_port()
        self._start("redis", port, ["redis-server", "--port", str(port), "--save", ""])
        run(eventually(partial(answers_ping, port), "Redis answers", START_SECONDS))
        return port

    def _start(
        self, service: str, port: int, command: list[str] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        image = image_of(service)
        try:
            container = DockerContainer(image).with_envs(**(environment or {}))
            container.ports[f"{port}/tcp"] = (LOOPBACK, port)  # type: ignore[assignment]  # with_bind_ports takes no address
            self._exits.enter_context(container.with_command(command) if command else container)
        except DockerException as error:
            remedy = "start Docker, or use --stack=local"
            raise StackError(f"no Docker engine could run {image}: {error}", remedy) from None


def image_of(service: str) -> str:
    """What docker compose runs is what is tested."""
    image: str = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))["services"][service]["image"]
    return image


async def _takes_writes(port: int) -> bool:
    host = f"{LOOPBACK}:{port}"
    try:
        await form_replica_set([host], ELECTION_TIMEOUT_MS)
    except PyMongoError:  # not up yet; once it is, a set that is formed already stays as it is
        return False
    return await is_primary(host)


def _kafka_environment(port: int) -> dict[str, str]:
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{LOOPBACK}:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
