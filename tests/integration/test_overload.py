"""More reads than MongoDB is asked at once, and than may wait; and reads of what nobody knows."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from neverstale.catalog import Resource
from neverstale.keys import KeyValue
from neverstale.loader import Loader, Snapshot
from neverstale.versions import Version
from ops.stack.redis import RedisOptions, start_redis
from tests.api_world import World, catalog_of
from tests.integration.test_api_reads import Gap, until
from tests.integration.test_outages_api import cached, hurried
from tests.waiting import eventually

CLIENTS = 40


async def test_without_redis_what_exceeds_the_queue_is_a_503_that_says_when_to_come_back(
    mongo_uri: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, begun, open_ = Loader.load, asyncio.Event(), asyncio.Event()

    async def held_up(loader: Loader, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        begun.set()
        await open_.wait()
        return await load(loader, resource, keys, at_least)

    async with await start_redis(RedisOptions(data=tmp_path)) as redis:
        settings = hurried(mongo_uri, redis.url)
        api = settings.api.model_copy(update={"mongodb_concurrency": 1, "mongodb_queue": 5})
        async with cached(settings.model_copy(update={"api": api}), database) as world:
            redis.kill()
            monkeypatch.setattr(Loader, "load", held_up)
            first = asyncio.create_task(world.http.get("/v1/things/first"))
            await begun.wait()
            # All but the first have to wait, and more than may: they are one read of so many keys.
            others = await asyncio.gather(*(world.http.get(f"/v1/things/{number}") for number in range(CLIENTS)))
            open_.set()
            assert (await first).status_code == 404
    assert {other.status_code for other in others} == {503}
    assert all(int(other.headers["retry-after"]) >= 1 for other in others)


# --- made-up ids


async def kept(world: World) -> int:
    """Entries of things in Redis."""
    return len([key async for key in world.redis.scan_iter(match="test:things:d:*", count=1000)])


async def test_of_made_up_ids_only_so_many_absences_are_kept_and_no_lease_is_left(
    mongo_uri: str, database: str, tmp_path: Path
) -> None:
    async with await start_redis(RedisOptions(data=tmp_path)) as redis:
        settings = hurried(mongo_uri, redis.url)
        api = settings.api.model_copy(update={"absences_per_second": 0.5})
        async with World.of(settings.model_copy(update={"api": api}), catalog_of(database)) as world:
            answers = await asyncio.gather(*(world.http.get(f"/v1/things/{number}") for number in range(100)))
            assert {answer.status_code for answer in answers} == {404}

            async def few() -> bool:
                return await kept(world) <= 3  # half of ten seconds' worth, and of what came since

            await eventually(few, "few absences are kept")
            assert (await world.http.get("/v1/things?keys=1,2,3")).status_code == 200


async def test_an_absence_that_was_withheld_is_kept_when_it_is_found_again(
    mongo_uri: str, database: str, tmp_path: Path
) -> None:
    async with await start_redis(RedisOptions(data=tmp_path)) as redis:
        settings = hurried(mongo_uri, redis.url)
        api = settings.api.model_copy(update={"absences_per_second": 0.5})
        async with World.of(settings.model_copy(update={"api": api}), catalog_of(database)) as world:
            await asyncio.gather(*(world.http.get(f"/v1/things/{number}") for number in range(20)))

            async def found_again() -> bool:
                await world.http.get("/v1/things/nobody")
                return await world.entry("things", "nobody") is not None

            await eventually(found_again, "it is kept")


async def test_keys_that_nobody_knows_are_refused_before_they_hold_leases(
    mongo_uri: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await start_redis(RedisOptions(data=tmp_path)) as redis:
        settings = hurried(mongo_uri, redis.url)
        api = settings.api.model_copy(update={"mongodb_concurrency": 1, "mongodb_queue": 2})
        async with cached(settings.model_copy(update={"api": api}), database) as world:
            gap = Gap(monkeypatch)
            reading = asyncio.create_task(world.http.get("/v1/things/first"))
            await until(1, gap.read, "the first read")
            waiting = asyncio.create_task(world.http.get("/v1/things/second"))

            async def second_waits() -> bool:
                return await world.entry("things", "second") is not None

            await eventually(second_waits, "the second has its lease")
            others = await asyncio.gather(*(world.http.get(f"/v1/things/{number}") for number in range(CLIENTS)))
            assert {other.status_code for other in others} == {503}
            assert await kept(world) == 3  # what was cached, and two leases
            gap.go.set()
            assert {(await each).status_code for each in (reading, waiting)} == {404}
