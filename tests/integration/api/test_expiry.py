"""Documents that say when they end, such as logins."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from neverstale.catalog import Catalog
from tests.support.waiting import eventually
from tests.worlds.api import World, settings_of
from tests.worlds.hits import Served

RESOURCES: dict[str, Any] = {
    "logins": {"key_type": "string", "expires_field": "ends", "on_change": "invalidate"},
    "things": {"key_type": "string", "on_change": "invalidate"},
}


@pytest.fixture
async def world(mongo_uri: str, redis_url: str, database: str, redis_prefix: str) -> AsyncIterator[World]:
    catalog = Catalog.model_validate({"database": database, "resources": RESOURCES})
    async with World.of(settings_of(mongo_uri, redis_url, redis_prefix), catalog) as world:
        yield world


def login(key: str, seconds: float) -> dict[str, Any]:
    return {"_id": key, "ends": datetime.now(UTC) + timedelta(seconds=seconds)}


async def test_a_login_is_kept_until_it_ends_and_not_longer(world: World) -> None:
    await world.write("logins", login("short", 2), login("long", 100_000))
    for key in ("short", "long"):
        await world.http.get(f"/v1/logins/{key}")
        await world.until_filled("logins", key)
    lives = [await world.redis.pttl(world.entry_key("logins", key)) for key in ("short", "long")]
    assert 0 < lives[0] <= 2000
    assert lives[1] > 3_000_000

    async def forgotten() -> bool:
        return await world.entry("logins", "short") is None

    await eventually(forgotten, "the login has ended")


async def test_a_login_that_has_ended_is_not_kept(world: World) -> None:
    await world.write("logins", login("past", -1))
    for _ in range(3):
        answer = await world.http.get("/v1/logins/past")
        assert (answer.status_code, answer.headers["cache-status"]) == (200, "neverstale; fwd=miss; detail=mongodb")
        await eventually(lambda: _is_free(world, "past"), "the lease is given back")


async def _is_free(world: World, key: str) -> bool:
    return await world.entry("logins", key) is None


async def test_a_login_that_is_deleted_is_gone_as_soon_as_that_is_applied(world: World) -> None:
    await world.write("logins", login("revoked", 1000))
    await world.http.get("/v1/logins/revoked")
    await world.until_filled("logins", "revoked")
    await world.apply("logins", ["revoked"], await world.remove("logins", "revoked"))
    assert (await world.http.get("/v1/logins/revoked")).status_code == 404


async def test_the_memory_of_the_process_keeps_no_logins(world: World) -> None:
    await world.write("logins", login("a", 1000))
    await world.write("things", {"_id": "a"})
    async with Served.of(world) as served:
        await served.vouched()
        assert b"detail=l1" in await served.kept("/v1/things/a", "a")
        async with served.connection() as client:
            await client.get("/v1/logins/a")
            await world.until_filled("logins", "a")
            answers = [await client.get("/v1/logins/a") for _ in range(3)]
        assert [b"detail=l2" in answer for answer in answers] == [True] * 3
