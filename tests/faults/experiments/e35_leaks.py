"""35: connections are cut and clients fail, again and again: each restart leaves nothing behind.

Watcher and consumer run in this process, whose tasks and descriptors can be counted; their connections lead through
proxies, which count what the servers see.
"""

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

import neverstale.consumers.main
import neverstale.streams.main
from neverstale.catalog import Catalog
from neverstale.ops.stack.ports import LOOPBACK
from neverstale.role.service import Health, Life
from neverstale.settings import Settings
from tests.faults.rig.experiment import LATE, Experiment, Outcome, Turn
from tests.faults.rig.pipeline import RESOURCE, Pipeline, pipeline
from tests.faults.rig.proxy import Proxy

LEAKED: Final = "left behind"
FIRST_ROUNDS: Final = 3
"""What there is after these is no leak: pools fill up."""
LOOKS: Final = 5
ALLOWED: Final = 4
"""Connections of pools come and go by so many. A restart that leaves anything behind leaves that each time."""
RECOVERY_SECONDS: Final = 20.0
SETTLE_SECONDS: Final = 5.0

Counts = Counter[str]


class Failing:
    """Lets the next call of a client's method fail, once, on demand."""

    def __init__(self, owner: type, method: str) -> None:
        self._owner, self._method = owner, method
        self._due = False
        self._clients: set[Any] = set()

    def fail(self) -> None:
        self._due = True

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        call = getattr(self._owner, self._method)

        async def failing(client: Any, *args: Any, **options: Any) -> Any:
            self._clients.add(client)
            if self._due:
                self._due = False
                raise KafkaError("made to fail")
            return await call(client, *args, **options)

        with patch.object(self._owner, self._method, failing):
            yield

    async def stop(self) -> None:
        """Close what a control has left open."""
        for client in self._clients:
            await client.stop()


@dataclass(frozen=True, slots=True)
class Rig:
    pipe: Pipeline
    mongo: AsyncMongoClient[dict[str, Any]]
    redis: Redis
    proxies: dict[str, Proxy]

    async def applied(self) -> float | None:
        """Seconds until a change that is made now is applied; `None`: too many."""
        with contextlib.suppress(Exception):
            async with self.mongo.start_session() as session:
                things = self.mongo[self.pipe.name][RESOURCE]
                await things.update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True, session=session)
                assert session.operation_time is not None
                time = session.operation_time
                return await self.pipe.passed(time.time << 32 | time.inc, RECOVERY_SECONDS)
        return None

    async def count(self) -> Counts:
        counts = Counter({f"connections to {name}": proxy.open for name, proxy in self.proxies.items()})
        counts["descriptors"] = psutil.Process().num_fds()
        counts["tasks"] = len(asyncio.all_tasks())
        counts["clients that Redis knows"] = len(await self.redis.client_list())
        status = await self.mongo.admin.command("serverStatus")
        counts["connections that MongoDB knows"] = status["connections"]["current"]
        return counts


async def restart_connections(turn: Turn) -> Outcome:
    outcome = Outcome()
    clients = Failing(AIOKafkaProducer, "send_batch"), Failing(AIOKafkaConsumer, "getmany")
    async with rig(turn) as made:
        with clients[0].installed(), clients[1].installed():
            async with running(made):
                before = Counts()
                for round_ in range(FIRST_ROUNDS):
                    await _restart(made, clients if round_ % 2 else (), outcome)
                    before |= await _most(made)
                for round_ in range(turn.rounds):
                    await _restart(made, clients if round_ % 2 else (), outcome)
                after = await _settled(made, before)
        for client in clients:
            await client.stop()
    for what, count in after.items():
        outcome.tally(LEAKED).note(_leaks(before, after, what), what, before[what], "->", count)
        outcome.figures[f"more {what}"] = count - before[what]
    return outcome


async def _restart(made: Rig, failing: Sequence[Failing], outcome: Outcome) -> None:
    """Cut every connection; those clients fail besides, and have to be made anew."""
    for client in failing:
        client.fail()
    for proxy in made.proxies.values():
        proxy.cut()
    seconds = await made.applied()
    outcome.tally(LATE).note(seconds is None, "after a restart")
    if seconds is not None:
        outcome.recovery.append(seconds)


async def _most(made: Rig) -> Counts:
    """The most that there is of each while connections come back; just after a cut, few are there."""
    most = Counts()
    for _ in range(LOOKS):
        most |= await made.count()
        await asyncio.sleep(0.1)
    return most


async def _settled(made: Rig, before: Counts) -> Counts:
    """What is left when what is being closed is closed."""
    deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
    while True:
        after = await made.count()
        if not any(_leaks(before, after, what) for what in after) or asyncio.get_running_loop().time() > deadline:
            return after
        gc.collect()
        await asyncio.sleep(0.1)


def _leaks(before: Counts, after: Counts, what: str) -> bool:
    return after[what] - before[what] > ALLOWED


@contextlib.asynccontextmanager
async def rig(turn: Turn) -> AsyncIterator[Rig]:
    bench = turn.bench
    broker, mongod, redis = await bench.kafka(), await bench.mongod(), await bench.redis()
    async with (
        Proxy(broker.inner_port, broker.watcher_port) as to_kafka,
        Proxy(mongod.members[0].ports[0]) as to_mongo,
        Proxy(redis.port) as to_redis,
        pipeline(bench, None, broker=broker) as pipe,
        Redis.from_url(redis.url) as aside,
        AsyncMongoClient[dict[str, Any]](mongod.uri, w="majority") as mongo,
    ):
        uri = f"mongodb://{LOOPBACK}:{to_mongo.port}/?directConnection=true"
        pipe.environment |= {
            "MONGODB__URI": uri,
            "REDIS__URL": to_redis.redis_url,
            "KAFKA__BOOTSTRAP_SERVERS": broker.watcher_servers,
        }
        yield Rig(pipe, mongo, aside, {"Kafka": to_kafka, "MongoDB": to_mongo, "Redis": to_redis})


@contextlib.asynccontextmanager
async def running(made: Rig) -> AsyncIterator[None]:
    """A watcher and a consumer in this process."""
    settings, catalog = _settings(made.pipe.environment), _catalog(made.pipe)
    lives = [Life(role, made.pipe.name, asyncio.Event(), Health(), "") for role in ("watcher", "consumer")]
    with ExitStack() as after:
        # The watcher's way with garbage is for a process of its own.
        after.enter_context(patch.object(neverstale.streams.main, "tune_garbage_collection"))
        async with asyncio.TaskGroup() as group:
            for live, life in zip((neverstale.streams.main.live, neverstale.consumers.main.live), lives, strict=True):
                group.create_task(live(settings, catalog, life), name=life.role)
            try:
                yield
            finally:
                for life in lives:
                    life.stop.set()


def _settings(environment: dict[str, str]) -> Settings:
    sections: dict[str, dict[str, str]] = {}
    for name, value in environment.items():
        section, _, field = name.lower().partition("__")
        if field:
            sections.setdefault(section, {})[field] = value
    return Settings.model_validate(sections)


def _catalog(pipe: Pipeline) -> Catalog:
    return Catalog.load(Path(pipe.environment["CATALOG"]))


EXPERIMENTS = (
    Experiment(
        number="35",
        fault="connections of watcher and consumer are cut, their clients fail",
        holds="each restart leaves no task, descriptor or connection behind",
        run=restart_connections,
        controls={"a producer that was given up is not closed": LEAKED},
        short=4,
        long=200,
    ),
)
