"""An API with a new catalog beside a consumer with the old one: what the consumer skips is not served as fresh."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from neverstale.api.freshness import watermark as freshness
from neverstale.versions import Version
from tests.support.waiting import eventually
from tests.worlds.api import PATIENT_MS, World
from tests.worlds.consuming import settings_of
from tests.worlds.deriving import RESOURCE, Deriving, catalog_of

NOTHING: dict[str, Any] = {"lists": {}, "counters": {}, "rankings": {}}
OLD = NOTHING | {"fields": {"origin": "string"}}
NEW = NOTHING | {"fields": {"origin": "string", "gate": "string"}}


@pytest.fixture
async def deriving(mongo_uri: str, kafka_servers: str, redis_url: str, database: str) -> AsyncIterator[Deriving]:
    """A watcher and the API's servers; the catalog is the old one."""
    settings = settings_of(mongo_uri, kafka_servers, redis_url, database, f"test{secrets.token_hex(6)}")
    redis = settings.redis.model_copy(update={"read_timeout_ms": PATIENT_MS, "connect_timeout_ms": PATIENT_MS})
    settings = settings.model_copy(update={"redis": redis})
    async with AsyncExitStack() as stack:
        deriving = await stack.enter_async_context(Deriving.on(settings, catalog_of(database, **OLD)))
        await deriving.documents.insert_one({"_id": "a", "origin": "JFK", "gate": "g0"})
        await stack.enter_async_context(deriving.watcher())
        yield deriving


async def change(deriving: Deriving, world: World, gate: str) -> Version:
    """A change of the field that the old catalog does not know, which has been applied as far as it will be."""
    await deriving.documents.update_one({"_id": "a"}, {"$set": {"gate": gate}})
    version = await world.loader.now()

    async def applied() -> bool:
        return (world.freshness.watermark or 0) >= version

    await eventually(applied, "the watermark has passed the change", 30)
    return version


async def ask(world: World) -> tuple[str, str]:
    answer = await world.http.get(f"/v1/{RESOURCE}/a")
    return answer.json()["gate"], answer.headers["cache-status"].removeprefix("neverstale; ").partition(";")[0]


async def until_hit(world: World) -> str:
    gates: list[str] = []

    async def hit() -> bool:
        gate, how = await ask(world)
        gates.append(gate)
        return how == "hit"

    await eventually(hit, "it is answered from the cache", 30)
    return gates[-1]


async def test_what_consumers_of_another_catalog_skip_is_not_answered_from_the_cache(deriving: Deriving) -> None:
    new = catalog_of(deriving.catalog.database, **NEW)
    async with World.of(deriving.settings, new, established=False) as world:
        async with deriving.consumer():
            for turn in range(1, 4):
                await change(deriving, world, f"g{turn}")
                assert await ask(world) == (f"g{turn}", "fwd=bypass")
            told = (await world.http.get("/v1/freshness")).json()["resources"][RESOURCE]
            assert told["bound"] is None and freshness.OTHER_CATALOG in told["why"]
        async with deriving.consumer(new):
            await change(deriving, world, "g4")
            assert await until_hit(world) == "g4"
            await change(deriving, world, "g5")
            assert await until_hit(world) == "g5"
        async with deriving.consumer():
            await change(deriving, world, "g6")
            assert (await ask(world))[0] == "g6"
        async with deriving.consumer(new):
            await change(deriving, world, "g7")
            assert await until_hit(world) == "g7"


async def test_without_coverage_a_stale_value_is_served_as_fresh(
    deriving: Deriving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "lacks", lambda *_: frozenset())
    new = catalog_of(deriving.catalog.database, **NEW)
    async with World.of(deriving.settings, new, established=False) as world, deriving.consumer():
        await change(deriving, world, "g1")
        assert await until_hit(world) == "g1"
        await change(deriving, world, "g2")
        assert await ask(world) == ("g1", "hit"), "the negative control"
