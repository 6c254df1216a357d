"""The fixtures lead to servers that serve."""

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from tests.support.dropping import drop_database
from tests.unit.project.test_compose import ask_kafka


async def test_the_database_takes_transactions(mongo_uri: str, database: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client, client.start_session() as session:
        async with await session.start_transaction():
            await client[database].things.insert_one({"_id": 1}, session=session)
        assert await client[database].things.count_documents({}) == 1


async def test_a_database_is_dropped_at_once_although_a_transaction_was_left_open_in_it(mongo_uri: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongo_uri) as client:
        await client.left_open.things.insert_one({"_id": 1})
        async with client.start_session() as session:
            await session.start_transaction()
            await client.left_open.things.find_one({}, session=session)
            async with asyncio.timeout(20):  # the server by itself takes a minute or more
                await asyncio.to_thread(drop_database, mongo_uri, "left_open")
        assert "left_open" not in await client.list_database_names()


async def test_the_broker_tells_its_brokers(kafka_servers: str, topic: str) -> None:
    client = AIOKafkaClient(bootstrap_servers=kafka_servers)
    await client.bootstrap()
    try:
        assert client.cluster.brokers()
        assert topic not in client.cluster.topics()
    finally:
        await client.close()


async def test_the_broker_passes_the_health_check_of_its_container(kafka_servers: str) -> None:
    port = int(kafka_servers.rpartition(":")[2])
    assert ask_kafka(port).wait(10) == 0


async def test_redis_answers_under_the_prefix(redis_url: str, redis_prefix: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        assert await redis.set(f"{redis_prefix}:key", "value")


async def test_the_old_redis_is_a_6_2(old_redis_url: str) -> None:
    async with Redis.from_url(old_redis_url) as redis:
        assert (await redis.info("server"))["redis_version"].startswith("6.2.")
