"""The caches that are compared, each behind one face: what runs, how it is asked, what a writer must do for it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis

from benchmarks.stale import connect
from neverstale.keys import Names
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.ports import LOOPBACK, answers_http, free_port
from neverstale.ops.stack.process import Launch, RunningProcess, python
from neverstale.ops.stack.stack import LocalStack
from neverstale.settings import RedisSettings

TTL_SECONDS: Final = 10
CATALOG: Final = 'database = "nyc"\n[resources.flights]\nkey_type = "string"\n'
PREFIX: Final = "board:"
"""Of the keys in Redis of who caches by hand."""


@dataclass(slots=True)
class Running:
    """A cache that runs."""

    url: str
    """Of `GET /v1/flights/{key}`."""
    parts: dict[str, RunningProcess]
    """What can be killed, by what it does: `captures`, `applies`, `answers`."""
    seen: tuple[str, bool] | None = None
    """Prefix of the keys in Redis whose modification is a correction, and whether only that of a served entry is;
    `None`: nothing corrects, or the writer does."""
    writer_deletes: bool = False

    @property
    def pipeline(self) -> list[RunningProcess]:
        """What works for each change."""
        return [part for name, part in self.parts.items() if name != "answers"]


@asynccontextmanager
async def neverstale(stack: LocalStack) -> AsyncIterator[Running]:
    watcher = await stack.start_role("watcher")
    # It is halted while a backlog is written; Kafka's own clients have this time-out.
    consumer = await stack.start_role("consumer", NEVERSTALE_KAFKA__SESSION_TIMEOUT_MS="45000")
    api = await stack.start_role("api")
    prefix = Names(RedisSettings().prefix).entry_prefix("flights").decode()
    yield Running(api.url, {"captures": watcher, "applies": consumer, "answers": api}, (prefix, True))


@asynccontextmanager
async def connected(kind: str, stack: LocalStack) -> AsyncIterator[Running]:
    """Kafka Connect, and a sink of thirty lines."""
    topic = connect.CONNECTORS[kind].topic
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    await admin.start()
    try:  # one partition, for mongo-kafka's keys are no keys of documents: so the order is right
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()
    async with AsyncExitStack() as exits:
        worker = await connect.launch(kind, stack.data, stack.mongo_uri, stack.bootstrap_servers)
        captures = await exits.enter_async_context(await RunningProcess.start(worker))
        argv = python("benchmarks.peers.sink", stack.bootstrap_servers, topic, stack.redis_url, kind)
        reads = _Says(_log(stack.data, "sink"), "reads")
        applies = await exits.enter_async_context(
            await RunningProcess.start(_launch("sink", argv, stack.data, reads))
        )
        answers = await exits.enter_async_context(await _app(stack, PEER_CACHE="aside"))
        parts = {"captures": captures, "applies": applies, "answers": answers}
        yield Running(_url(answers), parts, (PREFIX, False))


@asynccontextmanager
async def ttl(stack: LocalStack) -> AsyncIterator[Running]:
    if find_spec("cashews") is None:
        raise StackError("cashews is not installed", "pip install 'neverstale[bench]'")
    async with await _app(stack, PEER_CACHE="ttl", PEER_TTL_SECONDS=str(TTL_SECONDS)) as answers:
        yield Running(_url(answers), {"answers": answers})


@asynccontextmanager
async def delete_on_write(stack: LocalStack) -> AsyncIterator[Running]:
    async with await _app(stack, PEER_CACHE="aside") as answers:
        yield Running(_url(answers), {"answers": answers}, writer_deletes=True)


CACHES: Final[Mapping[str, Callable[[LocalStack], AbstractAsyncContextManager[Running]]]] = {
    "neverstale": neverstale,
    "mongo-kafka + a sink": partial(connected, "mongo-kafka"),
    "Debezium + a sink": partial(connected, "debezium"),
    f"cashews, TTL of {TTL_SECONDS} s": ttl,
    "delete on write": delete_on_write,
}


async def delete(redis: Redis, keys: Sequence[str]) -> None:
    """What a writer does who deletes what it has written."""
    await redis.delete(*(f"{PREFIX}{key}" for key in keys))


async def _app(stack: LocalStack, **variables: str) -> RunningProcess:
    port = free_port()
    options = (
        "--host",
        LOOPBACK,
        "--port",
        str(port),
        "--loop",
        "uvloop",
        "--no-access-log",
        "--log-level",
        "warning",
    )
    ready = partial(answers_http, port, "/openapi.json")
    variables |= {"PEER_REDIS": stack.redis_url, "PEER_MONGODB": stack.mongo_uri}
    argv = python("uvicorn", "benchmarks.peers.board_app:app", *options)
    return await RunningProcess.start(_launch("app", argv, stack.data, ready, (port,), variables))


def _launch(
    name: str,
    argv: Sequence[str],
    data: Path,
    ready: Any,
    ports: tuple[int, ...] = (),
    variables: Mapping[str, str] | None = None,
) -> Launch:
    return Launch(name=name, argv=argv, log=_log(data, name), ready=ready, ports=ports, env=variables or {})


def _log(data: Path, name: str) -> Path:
    return data / "logs" / f"{name}.log"


def _url(process: RunningProcess) -> str:
    return f"http://{LOOPBACK}:{process.ports[0]}"


@dataclass(slots=True)
class _Says:
    """Whether a process has said a line since it was last found to have; its log is never emptied."""

    log: Path
    line: str
    times: int = 1

    async def __call__(self) -> bool:
        said = await asyncio.to_thread(self._count)
        if said < self.times:
            return False
        self.times = said + 1
        return True

    def _count(self) -> int:
        return self.log.read_text(errors="replace").splitlines().count(self.line) if self.log.exists() else 0
