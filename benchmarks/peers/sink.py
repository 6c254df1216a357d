"""A sink as people write it: what Kafka Connect has put into a topic goes into Redis, in the order in which it comes.

python -m benchmarks.peers.sink KAFKA TOPIC REDIS {mongo-kafka,debezium}
"""

import asyncio
import sys

import orjson
from aiokafka import AIOKafkaConsumer
from redis.asyncio import Redis

SECONDS = 3600


def document(kind: str, key: bytes, value: bytes) -> tuple[str, bytes | None]:
    """What a record says: the document's key, and the document, if there still is one."""
    event = orjson.loads(value)
    if kind == "debezium":
        return orjson.loads(orjson.loads(key)["id"]), event["after"] and event["after"].encode()
    whole = event.get("fullDocument")
    return event["documentKey"]["_id"], whole and orjson.dumps(whole)


async def main(kafka: str, topic: str, url: str, kind: str) -> None:
    options = {"group_id": "sink", "enable_auto_commit": False, "auto_offset_reset": "earliest"}
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, **options) as consumer, Redis.from_url(url) as redis:
        while not consumer.assignment():  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.05)
        print("reads", flush=True)
        while True:
            pipeline = redis.pipeline(transaction=False)
            for records in (await consumer.getmany(timeout_ms=1000, max_records=1000)).values():
                for name, body in (document(kind, one.key, one.value) for one in records if one.value):
                    _ = pipeline.set(f"board:{name}", body, ex=SECONDS) if body else pipeline.delete(f"board:{name}")
            await pipeline.execute()
            await consumer.commit()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
