"""What can fail in the storm, each fault healed by itself before the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from signal import SIGCONT, SIGSTOP
from typing import Any, Final

from redis.asyncio import Redis

from neverstale.ops.stack.process import RunningProcess
from neverstale.ops.stack.role import RunningRole
from tests.faults.rig.pipeline import Pipeline
from tests.worlds.deriving import Deriving, Writer

QUIET: Final = 3000


@dataclass
class Stage:
    """What can be hurt."""

    pipe: Pipeline
    deriving: Deriving
    mongod: RunningProcess
    redis: RunningProcess
    broker: RunningProcess
    watchers: list[RunningRole]
    consumers: list[RunningRole]
    apis: list[RunningRole]
    dice: Random

    async def load(self) -> None:
        """Load the documents that stay as they are, until their collection is dropped."""
        quiet = Writer(self.deriving, self.dice.randrange(1 << 32), 1)
        await self.deriving.documents.insert_many([quiet.document(f"q{number}") for number in range(QUIET)])

    def any(self, some: list[RunningRole]) -> RunningRole:
        return self.dice.choice(some)


Fault = Callable[[Stage], Awaitable[None]]
FAULTS: Final[dict[str, Fault]] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    def register(make: Fault) -> Fault:
        FAULTS[name] = make
        return make

    return register


async def _killed(process: RunningProcess) -> None:
    process.kill()
    await process.restart(0)


async def _frozen(stage: Stage, process: RunningProcess, least: float = 2, most: float = 6) -> None:
    process.signal(SIGSTOP)
    try:
        await asyncio.sleep(stage.dice.uniform(least, most))
    finally:
        process.signal(SIGCONT)


@fault("a watcher is killed")
async def _kill_watcher(stage: Stage) -> None:
    await _killed(stage.any(stage.watchers))


@fault("a watcher is frozen")
async def _freeze_watcher(stage: Stage) -> None:
    await _frozen(stage, stage.any(stage.watchers))


@fault("a consumer is killed")
async def _kill_consumer(stage: Stage) -> None:
    await _killed(stage.any(stage.consumers))


@fault("a consumer is frozen")
async def _freeze_consumer(stage: Stage) -> None:
    await _frozen(stage, stage.any(stage.consumers))


@fault("an API is killed")
async def _kill_api(stage: Stage) -> None:
    await _killed(stage.any(stage.apis))


@fault("a role is restarted in order")
async def _restart(stage: Stage) -> None:
    await stage.any([*stage.watchers, *stage.consumers, *stage.apis]).restart()


@fault("a consumer comes, and goes")
async def _scale(stage: Stage) -> None:
    more = await stage.pipe.start("consumer")
    await asyncio.sleep(stage.dice.uniform(1, 4))
    await more.stop()
    stage.pipe.roles.remove(more)


@fault("the broker is killed")
async def _kill_broker(stage: Stage) -> None:
    await _killed(stage.broker)


@fault("the broker is frozen")
async def _freeze_broker(stage: Stage) -> None:
    await _frozen(stage, stage.broker)


@fault("Redis is killed, and comes back empty")
async def _kill_redis(stage: Stage) -> None:
    await _killed(stage.redis)


@fault("Redis is frozen")
async def _freeze_redis(stage: Stage) -> None:
    await _frozen(stage, stage.redis)


@fault("Redis is emptied")
async def _flush(stage: Stage) -> None:
    await _redis(stage, "FLUSHALL")


@fault("Redis forgets its scripts")
async def _forget(stage: Stage) -> None:
    await _redis(stage, "SCRIPT", "FLUSH")


@fault("Redis is full")
async def _full(stage: Stage) -> None:
    policy = stage.dice.choice(("allkeys-lru", "volatile-ttl", "noeviction"))
    await _redis(stage, "CONFIG", "SET", "maxmemory-policy", policy)
    await _redis(stage, "CONFIG", "SET", "maxmemory", "2mb")
    await asyncio.sleep(stage.dice.uniform(2, 5))
    await _redis(stage, "CONFIG", "SET", "maxmemory", "0")


@fault("half of the entries are evicted")
async def _evict(stage: Stage) -> None:
    async with Redis.from_url(stage.pipe.redis_url) as redis:
        keys = [key async for key in redis.scan_iter(match=f"{stage.pipe.name}:flights:d:*", count=1000)]
        for key in stage.dice.sample(keys, len(keys) // 2):
            await redis.delete(key)


@fault("MongoDB is killed")
async def _kill_mongod(stage: Stage) -> None:
    await _killed(stage.mongod)


@fault("MongoDB is frozen")
async def _freeze_mongod(stage: Stage) -> None:
    await _frozen(stage, stage.mongod)


@fault("the primary steps down")
async def _step_down(stage: Stage) -> None:
    await stage.deriving.mongo.admin.command({"replSetStepDown": 2, "force": True})


@fault("the collection is dropped, and loaded again")
async def _drop(stage: Stage) -> None:
    await stage.deriving.documents.drop()
    await stage.load()


@fault("the collection is renamed, and back")
async def _rename(stage: Stage) -> None:
    documents = stage.deriving.documents
    name = documents.name
    await documents.rename(f"{name}-away", dropTarget=True)
    await asyncio.sleep(0.2)
    away = documents.database[f"{name}-away"]
    await away.rename(name, dropTarget=True)


@fault("many documents change in one transaction")
async def _transaction(stage: Stage) -> None:
    documents = stage.deriving.documents
    keys = [one["_id"] async for one in documents.find({}, {"_id": 1}).limit(200)]

    async def change(session: Any) -> None:
        for day in (1, 2):
            await documents.update_many({"_id": {"$in": keys}}, {"$set": {"day": day}}, session=session)

    async with stage.deriving.mongo.start_session() as session:
        await session.with_transaction(change)


@fault("records are unreadable")
async def _poison(stage: Stage) -> None:
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=stage.pipe.broker.servers)
    await producer.start()
    try:
        for _ in range(20):
            body = stage.dice.choice((b"", b"{", b'{"v":99,"kind":"change"}', stage.dice.randbytes(40)))
            await producer.send(stage.pipe.name, body, key=stage.dice.choice((None, b"x")))
        await producer.flush()
    finally:
        await producer.stop()


async def _redis(stage: Stage, *command: str) -> None:
    async with Redis.from_url(stage.pipe.redis_url) as redis:
        client: Any = redis
        await client.execute_command(*command)


def shuffled(dice: Random) -> list[tuple[str, Fault]]:
    """All faults, in an order that the dice choose."""
    known: Mapping[str, Fault] = FAULTS
    names = sorted(known)
    dice.shuffle(names)
    return [(name, known[name]) for name in names]
