"""The watermark at the API: what it takes for an answer from the cache to have a bound, and what takes it away."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from neverstale.keys import Names
from neverstale.ops.stack.redis import RedisOptions, RedisServer, start_redis
from tests.faults.rig.proxy import Proxy
from tests.support.waiting import eventually
from tests.worlds.api import PARTITIONS, World, catalog_of, settings_of


async def explained(world: World, why: str) -> None:
    async def is_so() -> bool:
        state = (await world.http.get("/v1/freshness")).json()["resources"]["things"]
        return why in str(state["why"]) and state["watermark"] is None and state["bound"] is None

    await eventually(is_so, f"the API says that {why!r}")


async def mark_some(world: World, partitions: int, identity: str | None = None) -> None:
    identity = identity or await world.cache.identity()
    present = (await world.loader.now(), await world.primary_ms())
    marks = dict.fromkeys(range(partitions), present)
    await world.cache.set_watermarks(world.settings.kafka.group, identity, PARTITIONS, marks)


async def test_without_any_mark_there_is_none(world: World) -> None:
    await explained(world, "no consumer has stored a watermark")


async def test_every_partition_must_have_one(world: World) -> None:
    await mark_some(world, 2)
    await explained(world, "partition 2 has no watermark")


async def test_a_watermark_of_another_redis_is_void(world: World) -> None:
    await mark_some(world, PARTITIONS, identity="somebody-else")
    await explained(world, "the watermark of partition 0 is of another Redis")


async def test_it_is_the_least_of_all_partitions(world: World) -> None:
    low = await world.mark()
    identity = await world.cache.identity()
    high = (await world.write("things", {"_id": "a"}), await world.primary_ms())
    await world.cache.set_watermarks(world.settings.kafka.group, identity, PARTITIONS, {0: high, 1: high})

    async def known() -> bool:
        return world.freshness.marks.newest == high[0]

    await eventually(known, "the higher mark is seen")
    assert world.freshness.watermark == low


async def test_a_mark_widens_what_an_old_entry_is_good_for(world: World) -> None:
    await world.write("things", {"_id": "a"})
    await world.reader.get(world.things, "a")
    old = await world.until_filled("things", "a")
    mark = await world.mark(await world.write("things", {"_id": "b"}))
    answer = await world.reader.get(world.things, "a")
    assert (answer.how, answer.version, answer.complete) == ("hit", old.version, mark)
    assert mark > old.version


async def test_a_mark_that_came_after_the_read_was_issued_widens_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.write("things", {"_id": "a"})
    await world.reader.get(world.things, "a")
    entry = await world.until_filled("things", "a")
    cache = world.state.hits
    read = cache.read_raw

    async def read_then_mark(*arguments: Any) -> object:
        reply = await read(*arguments)
        await world.mark(await world.write("things", {"_id": "b"}))
        return reply

    monkeypatch.setattr(cache, "read_raw", read_then_mark)
    answer = await world.reader.get(world.things, "a")
    assert (answer.how, answer.complete) == ("hit", entry.version)


async def test_no_answer_is_older_than_its_bound_while_a_consumer_lags(world: World) -> None:
    """A consumer applies changes late but marks truthfully; every answer is judged by its own bound."""
    written: list[tuple[float, int]] = []  # monotonic time of the acknowledgement, number
    done = asyncio.Event()

    async def write_and_apply() -> None:
        for number in range(40):
            version = await world.write("things", {"_id": "a", "n": number})
            written.append((time.monotonic(), number))
            wall_ms = await world.primary_ms()
            if number % 7 == 0:
                await world.apply("things", ["a"], version)
                await mark_at(world, version, wall_ms)
        done.set()

    async def judge() -> int:
        judged = 0
        while not done.is_set():
            asked = time.monotonic()
            answer = await world.reader.get(world.things, "a")
            bound = world.reader.bound(answer)
            if bound is None or answer.body is None:
                continue
            must_have = max((number for at, number in written if at < asked - bound), default=-1)
            assert int(answer.body.split(b'"n":')[1].rstrip(b"}")) >= must_have
            judged += 1
        return judged

    await world.write("things", {"_id": "a", "n": -1})
    await world.mark()
    _, judged = await asyncio.gather(write_and_apply(), judge())
    assert judged > 10


async def mark_at(world: World, version: int, wall_ms: int) -> None:
    identity = await world.cache.identity()
    marks = dict.fromkeys(range(PARTITIONS), (version, wall_ms))
    await world.cache.set_watermarks(world.settings.kafka.group, identity, PARTITIONS, marks)


# --- another Redis


@pytest.fixture
async def redises(tmp_path: Path) -> AsyncIterator[tuple[RedisServer, RedisServer]]:
    """One, and a replica of it."""
    async with (
        await start_redis(RedisOptions(data=tmp_path, name="first")) as first,
        await start_redis(RedisOptions(data=tmp_path, name="second", replica_of=first.port)) as second,
    ):
        yield first, second


async def test_a_failover_to_a_replica_voids_the_watermark_before_the_first_read(
    mongo_uri: str, database: str, redises: tuple[RedisServer, RedisServer]
) -> None:
    first, second = redises
    async with Proxy(first.port) as proxy:
        rarely = settings_of(mongo_uri, proxy.redis_url, "test", freshness_interval_ms=200, l1_bytes=0)
        async with World.of(rarely, catalog_of(database)) as world:
            await world.write("things", {"_id": "a"})
            await world.reader.get(world.things, "a")
            entry = await world.until_filled("things", "a")
            mark = await world.mark(await world.write("things", {"_id": "b"}))
            assert (await world.reader.get(world.things, "a")).complete == mark
            await world.redis.wait(1, 5000)
            proxy.target = second.port
            proxy.cut()
            while (answer := await world.reader.get(world.things, "a")).how != "hit":
                pass  # the first reads find their connections reset
            assert (answer.version, answer.complete) == (entry.version, entry.version)
            await explained(world, "Redis")
            # Its consumers have adopted it.
            await promote(second)
            await eventually(partial(answers, world.redis), "the test's own connection is made anew")
            await world.mark()
            assert (await world.reader.get(world.things, "a")).complete > entry.version


async def answers(redis: Redis) -> bool:
    try:
        return bool(await redis.ping())
    except RedisError:
        return False


async def promote(replica: RedisServer) -> None:
    async with Redis.from_url(replica.url) as redis:
        await redis.replicaof("NO", "ONE")


async def test_a_server_that_becomes_another_one_while_connected_is_believed_after_new_connections(
    mongo_uri: str, database: str, redises: tuple[RedisServer, RedisServer]
) -> None:
    _, replica = redises
    settings = settings_of(mongo_uri, replica.url, "test")
    async with World.of(settings, catalog_of(database), established=False) as world:
        await explained(world, "no consumer has stored a watermark")
        before = world.freshness.of("things").evidence()
        await promote(replica)  # a new replication id, and no connection is lost

        async def voided() -> bool:
            return not world.freshness.of("things").still_holds(before)

        await eventually(voided, "the evidence is void")
        await world.mark()


async def test_a_demoted_master_vouches_for_nothing_more_although_nobody_was_disconnected(
    mongo_uri: str, database: str, redises: tuple[RedisServer, RedisServer]
) -> None:
    first, second = redises
    async with World.of(settings_of(mongo_uri, first.url, "test"), catalog_of(database)) as world:
        mark = await world.mark(await world.write("things", {"_id": "a"}))
        await world.reader.get(world.things, "a")
        await world.until_filled("things", "a")
        assert (await world.reader.get(world.things, "a")).complete >= mark
        before = world.freshness.of("things").evidence()
        await world.redis.wait(1, 5000)
        await promote(second)
        await world.redis.replicaof("127.0.0.1", str(second.port))

        async def followed() -> bool:
            return bool((await world.redis.info("replication")).get("master_link_status") == "up")

        await eventually(followed, "the first one has the second one's data")

        async def void() -> bool:
            return not world.freshness.of("things").still_holds(before)

        await eventually(void, "the evidence is void")
        await explained(world, "is of another Redis")
        # What it still serves it does not vouch for: a change since then would be told to the new master.
        later = await world.write("things", {"_id": "a", "n": 1})
        assert (await world.reader.get(world.things, "a")).complete < later


async def test_a_flushed_redis_has_no_watermark(
    mongo_uri: str, database: str, redises: tuple[RedisServer, RedisServer]
) -> None:
    async with World.of(settings_of(mongo_uri, redises[0].url, "test"), catalog_of(database)) as world:
        await world.mark()
        await world.redis.flushall()
        await explained(world, "no consumer has stored a watermark")
        answer = await world.reader.get(world.things, "a")
        assert (answer.how, answer.detail) == ("bypass", "mongodb")
        assert await world.redis.exists(Names("test").entry("things", "s:a")) == 0
