"""The least that could do our work: change stream -> Kafka -> Redis, with the same clients and none of our rules.

    python -m benchmarks.peers.bare_pipeline watch MONGODB DATABASE COLLECTION KAFKA TOPIC FILE
    python -m benchmarks.peers.bare_pipeline apply KAFKA TOPIC REDIS PREFIX FILE

`watch` sends the number of each changed document to Kafka at once, `apply` deletes the key `PREFIX` + number. No
position is stored, nothing is compared, nobody knows how fresh Redis is. Each writes `FILE` once it listens, and ends
at SIGTERM.
"""

import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

PARTITIONS: Final = 4


async def watch(mongodb: str, database: str, collection: str, kafka: str, topic: str, file: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True, linger_ms=0)
    async with AsyncMongoClient[dict[str, Any]](mongodb) as client, producer:
        thin = [{"$project": {"documentKey": 1}}]
        async with await client[database][collection].watch(thin) as changes:
            listens(file)
            async for change in changes:
                key = b"%d" % change["documentKey"]["_id"]
                await producer.send(topic, key, key=key)


async def apply(kafka: str, topic: str, url: str, prefix: str, file: str) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="latest")
    async with consumer, Redis.from_url(url) as redis:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        await consumer.seek_to_end()
        listens(file)
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            if keys := [f"{prefix}{record.value.decode()}" for records in batches.values() for record in records]:
                await redis.delete(*keys)


async def make_topic(kafka: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    finally:
        await admin.close()


def listens(file: str) -> None:
    Path(file).write_text("listens\n")


ROLES: Final[dict[str, Callable[..., Coroutine[Any, Any, None]]]] = {"watch": watch, "apply": apply}

if __name__ == "__main__":
    uvloop.run(ROLES[sys.argv[1]](*sys.argv[2:]))
