"""The three servers that tests talk to: started here, started in containers, or given by their addresses."""

import asyncio
import os
import tempfile
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError

from neverstale.ops.stack.broker import Broker, BrokerOptions, start_broker
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.mongod import MongodOptions, ReplicaSet, start_mongod
from neverstale.ops.stack.redis import Flavour, RedisOptions, RedisServer, start_redis
from tests.support.shared import Shared

Choice = Literal["local", "containers", "given"]
GIVEN = ("NEVERSTALE_TEST_MONGODB_URI", "NEVERSTALE_TEST_KAFKA", "NEVERSTALE_TEST_REDIS_URL")

T = TypeVar("T")
Server = TypeVar("Server", bound=ReplicaSet | RedisServer)


class Servers(Protocol):
    """Each server is started when it is first asked for, and only then.

    Asking raises `StackError` where a server cannot be had.
    """

    def mongo_uri(self) -> str: ...

    def kafka_servers(self) -> str: ...

    def redis_url(self) -> str: ...

    def delete_topic(self, topic: str) -> None:
        """Called after the test that used it; servers that end with the tests need not bother."""

    def stop(self) -> None: ...


def choose_servers(choice: Choice, environ: Mapping[str, str] = os.environ) -> Servers:
    """The servers of `--stack`; addresses in the environment win."""
    if all(environ.get(name) for name in GIVEN):
        return GivenServers(*(environ[name] for name in GIVEN))
    if choice == "given":
        missing = ", ".join(name for name in GIVEN if not environ.get(name))
        raise StackError(f"--stack=given lacks {missing}", "set what is missing, or use --stack=local")
    if choice == "containers":
        from tests.support.containers import ContainerServers

        return ContainerServers()
    return LocalServers()


def run(story: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine from a synchronous fixture, without touching the event loop of the tests."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(story)


class LocalServers:
    """Processes of ours in a temporary folder. Fail points are allowed on this mongod; the broker is all workers'."""

    def __init__(self) -> None:
        self._exits = ExitStack()
        self._broker = Shared("broker", _start_broker)

    @cached_property
    def data(self) -> Path:
        folder = tempfile.TemporaryDirectory(prefix="neverstale-tests-", ignore_cleanup_errors=True)
        return Path(self._exits.enter_context(folder))

    @cached_property
    def mongod(self) -> ReplicaSet:
        return self._keep(run(start_mongod(MongodOptions(data=self.data, test_commands=True))))

    @cached_property
    def redis(self) -> RedisServer:
        return self.redis_of("any")

    def redis_of(self, flavour: Flavour) -> RedisServer:
        return self._keep(run(start_redis(RedisOptions(data=self.data, flavour=flavour, name=f"redis-{flavour}"))))

    def mongo_uri(self) -> str:
        return self.mongod.uri

    def kafka_servers(self) -> str:
        return self._broker.address()

    def redis_url(self) -> str:
        return self.redis.url

    def delete_topic(self, topic: str) -> None:
        return None

    def stop(self) -> None:
        self._exits.close()
        self._broker.leave()

    def _keep(self, server: Server) -> Server:
        self._exits.callback(server.kill)  # the folder goes too: there is nothing to save
        return server


def _start_broker(folder: Path) -> tuple[Broker, str]:
    broker = run(start_broker(BrokerOptions(data=folder)))
    return broker, broker.bootstrap_servers


class GivenServers:
    """Somebody else's servers, left as they were found."""

    def __init__(self, mongo_uri: str, kafka_servers: str, redis_url: str) -> None:
        self._mongo_uri, self._kafka_servers, self._redis_url = mongo_uri, kafka_servers, redis_url

    def mongo_uri(self) -> str:
        return self._mongo_uri

    def kafka_servers(self) -> str:
        return self._kafka_servers

    def redis_url(self) -> str:
        return self._redis_url

    def delete_topic(self, topic: str) -> None:
        run(_delete_topic(self._kafka_servers, topic))

    def stop(self) -> None:
        return None


async def _delete_topic(servers: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    except UnknownTopicOrPartitionError:
        pass  # the test made no use of it
    finally:
        await admin.close()
