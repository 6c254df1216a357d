"""The least that could keep a list, two counters and a ranking up to date: what `benchmarks.derive` measures us by.

For each batch of records it reads the documents once, what it knows of them once, and sends all that differs in one
pipeline. It has none of our rules: no version is compared, and nothing is one step, so whoever is ended in the middle
counts wrongly for good.
"""

import asyncio
import resource
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import uvloop
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from benchmarks.topic import following

FIELDS: Final = ("origin", "day", "status", "carrier", "dep_delay")
KNOWN: Final = "bare:known"

Facts = tuple[str, ...]


@dataclass(frozen=True)
class Task:
    servers: str
    mongo: str
    redis: str
    database: str
    collection: str
    start: Mapping[int, int]
    count: int
    """Of records in the topic since `start`."""


def facts_of(document: Mapping[str, Any]) -> Facts:
    return tuple([str(document[name]) for name in FIELDS])


async def run(task: Task) -> float:
    """CPU seconds of this process for all the records."""
    async with AsyncMongoClient[dict[str, Any]](task.mongo) as mongo, Redis.from_url(task.redis) as redis:
        collection = mongo[task.database][task.collection]
        if not await redis.exists(KNOWN):
            everything = await collection.find({}, dict.fromkeys(FIELDS, 1)).to_list()
            await _derive(redis, [(one["_id"], facts_of(one), None) for one in everything])
        if not task.count:
            return 0.0
        async with following(task.servers, task.start, task.count) as batches:
            before = resource.getrusage(resource.RUSAGE_SELF)
            async for records in batches:
                keys = _keys([one.value for one in records], task.collection)
                if keys:
                    documents, held = await asyncio.gather(
                        collection.find({"_id": {"$in": keys}}, dict.fromkeys(FIELDS, 1)).to_list(),
                        redis.hmget(KNOWN, keys),
                    )
                    known = dict(zip(keys, held, strict=True))
                    await _derive(redis, [(one["_id"], facts_of(one), known[one["_id"]]) for one in documents])
            after = resource.getrusage(resource.RUSAGE_SELF)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _keys(values: Iterable[bytes | None], collection: str) -> list[str]:
    """The documents that records name, each once."""
    events = [orjson.loads(value) for value in values if value is not None]
    named = [one["key"] for one in events if one["kind"] == "change" and one["coll"] == collection]
    return [key.removeprefix("s:") for key in dict.fromkeys(named)]


async def _derive(redis: Any, changed: Sequence[tuple[str, Facts, bytes | None]]) -> None:
    """`changed`: `_id`, facts, and what was known before."""
    known: dict[str, bytes] = {}
    counters: Counter[tuple[str, str]] = Counter()
    scores: dict[str, dict[str, int]] = {}
    tags: dict[str, int] = {}
    for key, facts, held in changed:
        text = orjson.dumps(facts)
        if text == held:
            continue
        known[key] = text
        origin, day, status, carrier, delay = facts
        counters["bare:by_status", f"{origin}|{status}"] += 1
        counters["bare:by_carrier", carrier] += 1
        counters["bare:delays", carrier] += int(delay)
        if held is not None:
            origin_before, _, status_before, carrier_before, delay_before = orjson.loads(held)
            counters["bare:by_status", f"{origin_before}|{status_before}"] -= 1
            counters["bare:by_carrier", carrier_before] -= 1
            counters["bare:delays", carrier_before] -= int(delay_before)
        scores.setdefault(f"bare:most_delayed:{day}", {})[key] = int(delay)
        tags[f"{origin}|{day}"] = 1
    if not known:
        return
    pipeline = redis.pipeline(transaction=False)
    pipeline.hset(KNOWN, mapping=known)
    for (name, field), amount in counters.items():
        if amount:
            pipeline.hincrby(name, field, amount)
    for name, members in scores.items():
        pipeline.zadd(name, members)
    pipeline.hset("bare:tags", mapping=tags)
    await pipeline.execute()


if __name__ == "__main__":
    given = orjson.loads(sys.argv[1])
    given["start"] = {int(partition): offset for partition, offset in given["start"].items()}
    print(uvloop.run(run(Task(**given))))
