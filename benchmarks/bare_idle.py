"""The least that could keep an idle pipeline's answers about a second old: what `benchmarks.idle` measures ours by.

Each second the watcher writes to MongoDB, hears of that from its change stream, tells every partition of a topic, and
stores its position; the consumer, a member of a group, tells Redis and commits; the API hears that on a channel, and
looks at Redis four times a second; the console listens. No promise depends on any of it.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn

import uvicorn
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from pymongo import AsyncMongoClient
from redis.asyncio import Redis
from starlette.types import Receive, Scope, Send

from neverstale.ops.stack.ports import LOOPBACK

TOPIC: Final = "bare"
PARTITIONS: Final = 4


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def listen() -> None:
    port = int(os.environ["BARE_PORT"])
    await uvicorn.Server(uvicorn.Config(_app, host=LOOPBACK, port=port, log_level="warning", lifespan="off")).serve()


async def watcher() -> NoReturn:
    producer = AIOKafkaProducer(bootstrap_servers=os.environ["BARE_KAFKA"], acks="all")
    await producer.start()
    async with AsyncMongoClient[dict[str, Any]](os.environ["BARE_MONGODB"]) as client:
        notes, positions = client["bare"]["notes"], client["bare_positions"]["positions"]
        stream = await client["bare"].watch(max_await_time_ms=1000)

        async def note() -> NoReturn:
            while True:
                await notes.update_one({"_id": "here"}, {"$inc": {"times": 1}}, upsert=True)
                await asyncio.sleep(1)

        async with asyncio.TaskGroup() as group:
            group.create_task(note())
            group.create_task(listen())
            while True:
                if (change := await stream.try_next()) is not None:
                    mark = str(change["clusterTime"]).encode()
                    sent = [await producer.send(TOPIC, mark, partition=number) for number in range(PARTITIONS)]
                    await asyncio.gather(*sent)
                    await positions.replace_one({"_id": "here"}, {"token": stream.resume_token}, upsert=True)


async def consumer() -> NoReturn:
    servers = os.environ["BARE_KAFKA"]
    member = AIOKafkaConsumer(TOPIC, bootstrap_servers=servers, group_id="bare", enable_auto_commit=False)
    async with Redis.from_url(os.environ["BARE_REDIS"]) as redis:
        await member.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            while True:
                fetched = await member.getmany(timeout_ms=1000)
                marks: dict[Any, Any] = {
                    str(partition.partition): records[-1].value for partition, records in fetched.items()
                }
                if marks:
                    pipeline = redis.pipeline(transaction=False)
                    pipeline.hset("bare:marks", mapping=marks)
                    pipeline.publish("bare", b"")
                    await pipeline.execute()
                    await member.commit()


async def api() -> NoReturn:
    async with Redis.from_url(os.environ["BARE_REDIS"]) as redis, redis.pubsub() as channel:
        await channel.subscribe("bare")

        async def hear() -> NoReturn:
            while True:
                await channel.get_message(timeout=None)

        async with asyncio.TaskGroup() as group:
            group.create_task(hear())
            group.create_task(listen())
            while True:
                await redis.hgetall("bare:marks")
                await asyncio.sleep(0.25)


ROLES: Final[dict[str, Callable[[], Coroutine[Any, Any, Any]]]] = {
    "watcher": watcher,
    "consumer": consumer,
    "api": api,
    "console": listen,
}

if __name__ == "__main__":
    uvloop.run(ROLES[sys.argv[1]]())
