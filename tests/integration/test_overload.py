"""More reads than MongoDB is asked at once, and than may wait, while Redis is away."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from neverstale.catalog import Resource
from neverstale.keys import KeyValue
from neverstale.loader import Loader, Snapshot
from neverstale.versions import Version
from ops.stack.redis import RedisOptions, start_redis
from tests.integration.test_outages_api import cached, hurried

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
