"""Warming: what the cache holds before anybody has asked, on the whole pipeline."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.ops.repair.warm import WarmWanted, warm
from neverstale.redis.most_read import Popularity
from neverstale.settings import Settings
from tests.support.dropping import drop_database
from tests.support.waiting import eventually
from tests.worlds.api import PATIENT_MS, World
from tests.worlds.consuming import settings_of
from tests.worlds.deriving import RESOURCE, Deriving, catalog_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

DECLARED: dict[str, Any] = {
    "fields": {"origin": "string", "gate": "string"},
    "lists": {"departures": {"by": ["origin"], "sort": ["gate"], "page_size": 2, "cached_pages": 3}},
    "counters": {},
    "rankings": {},
}
AIRPORTS = ("EWR", "JFK", "LGA")
FLIGHTS = 5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deriving(mongo_uri: str, kafka_servers: str, redis_url: str) -> AsyncIterator[Deriving]:
    name = f"test{secrets.token_hex(6)}"
    settings: Settings = settings_of(mongo_uri, kafka_servers, redis_url, name, name)
    redis = settings.redis.model_copy(update={"read_timeout_ms": PATIENT_MS, "connect_timeout_ms": PATIENT_MS})
    api = settings.api.model_copy(update={"warm_reads_per_second": 10_000.0})
    settings = settings.model_copy(update={"redis": redis, "api": api})
    async with AsyncExitStack() as stack:
        deriving = await stack.enter_async_context(Deriving.on(settings, catalog_of(name, **DECLARED)))
        flights = [
            {"_id": f"{origin}{number}", "origin": origin, "gate": f"g{number}"}
            for origin in AIRPORTS
            for number in range(FLIGHTS)
        ]
        await deriving.documents.insert_many(flights)
        await stack.enter_async_context(deriving.watcher())
        await stack.enter_async_context(deriving.consumer())
        await deriving.until_complete()
        yield deriving
    await asyncio.to_thread(drop_database, mongo_uri, name)


def warming(deriving: Deriving, **wanted: Any) -> Catalog:
    return catalog_of(deriving.catalog.database, **DECLARED, warm=wanted)


async def empty(deriving: Deriving) -> None:
    """Let the cache hold neither pages nor documents."""
    prefix = deriving.settings.redis.prefix
    for pattern in (f"{prefix}:{RESOURCE}:d:*", f"{prefix}:{{{RESOURCE}}}:*:l:*", f"{prefix}:{{{RESOURCE}}}:reads*"):
        async for key in deriving.redis.scan_iter(match=pattern, count=1000):
            await deriving.redis.delete(key)


async def ready(world: World) -> None:
    async def so() -> bool:
        return (await world.http.get("/readyz")).status_code == 200

    await eventually(so, "the API is ready", 30)


async def how(world: World, path: str) -> str:
    answer = await world.http.get(path)
    assert answer.status_code == 200, answer.text
    return answer.headers["cache-status"].removeprefix("neverstale; ").partition(";")[0]


async def page(world: World, origin: str, cursor: str | None = None) -> tuple[str, str | None]:
    query = f"origin={origin}" + (f"&cursor={cursor}" if cursor else "")
    answer = await world.http.get(f"/v1/{RESOURCE}/-/lists/departures?{query}")
    return answer.headers["cache-status"].removeprefix("neverstale; ").partition(";")[0], answer.json()["next"]


async def test_an_api_that_is_ready_holds_the_pages_that_the_catalog_says(deriving: Deriving) -> None:
    await empty(deriving)
    catalog = warming(deriving, **{"from": "lists.departures", "pages": 2})
    async with World.of(deriving.settings, catalog, established=False) as world:
        await ready(world)
        for origin in AIRPORTS:
            first, cursor = await page(world, origin)
            second, cursor = await page(world, origin, cursor)
            third, _ = await page(world, origin, cursor)
            assert (first, second, third) == ("hit", "hit", "fwd=miss")


async def test_without_warming_the_first_to_ask_waits_for_mongodb(deriving: Deriving) -> None:
    await empty(deriving)
    async with World.of(deriving.settings, deriving.catalog, established=False) as world:
        await ready(world)

        async def known() -> bool:
            return bool(world.freshness.watermark)

        await eventually(known, "the watermark is known")
        assert (await page(world, "JFK"))[0] in ("fwd=miss", "fwd=bypass")


async def test_the_most_read_documents_are_read_first_to_last(deriving: Deriving) -> None:
    await empty(deriving)
    reads = Popularity(deriving.store._redis, deriving.settings.api.reads_half_life_seconds)
    await reads.add(RESOURCE, {"s:EWR1": 5, "s:JFK1": 9, "s:LGA1": 1})
    async with World.of(deriving.settings, warming(deriving, most_read=2), established=False) as world:
        await ready(world)
        answers = [await how(world, f"/v1/{RESOURCE}/{key}") for key in ("JFK1", "EWR1", "LGA1")]
        assert answers == ["hit", "hit", "fwd=miss"]


async def test_the_deadline_ends_the_waiting_and_not_the_warming(deriving: Deriving) -> None:
    await empty(deriving)
    slow = deriving.settings.api.model_copy(update={"warm_reads_per_second": 4.0, "warm_deadline_seconds": 0.2})
    catalog = warming(deriving, **{"from": "lists.departures"})
    async with World.of(deriving.settings.model_copy(update={"api": slow}), catalog, established=False) as world:
        await ready(world)
        said: list[str] = []

        async def warmed() -> bool:
            answer = await world.http.get("/readyz")
            said.append(answer.json()["parts"].get("warm", ""))
            return answer.status_code == 200 and said[-1] == "ok"

        await eventually(warmed, "all is warmed", 30)
        assert any("of 3" in each for each in said)


async def test_the_command_reads_what_it_is_told(deriving: Deriving) -> None:
    await empty(deriving)
    wanted = WarmWanted(RESOURCE, "lists.departures", pages=3)
    warmed = await warm(deriving.settings, deriving.catalog, wanted, quiet=True)
    assert (warmed.pages, warmed.hits, warmed.past) == (9, 0, 0)
    again = await warm(deriving.settings, deriving.catalog, wanted, quiet=True)
    assert (again.pages, again.hits, again.past) == (9, 9, 0)


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (WarmWanted("flihgts"), "did you mean flights?"),
        (WarmWanted(RESOURCE), "nothing says what to read"),
        (WarmWanted(RESOURCE, "lists.arrivals"), "there is no lists.arrivals"),
    ],
)
async def test_what_cannot_be_read_is_said(deriving: Deriving, wanted: WarmWanted, problem: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        await warm(deriving.settings, deriving.catalog, wanted, quiet=True)
    assert problem in str(caught.value)


async def test_another_catalog_is_warm_beside_the_old_one_before_anybody_asks_it(deriving: Deriving) -> None:
    """Blue and green: another prefix and group on the same servers and topic, and another catalog."""
    blue = deriving.settings
    redis = blue.redis.model_copy(update={"prefix": blue.redis.prefix + "-green"})
    kafka = blue.kafka.model_copy(update={"group": blue.kafka.group + "-green"})
    settings = blue.model_copy(update={"redis": redis, "kafka": kafka})
    declared = DECLARED | {"fields": {"origin": "string"}}
    catalog = catalog_of(deriving.catalog.database, **declared, warm={"from": "lists.departures", "pages": 1})
    async with AsyncExitStack() as stack:
        green = await stack.enter_async_context(Deriving.on(settings, catalog))
        await stack.enter_async_context(green.consumer())
        await green.until_complete()
        new = await stack.enter_async_context(World.of(settings, catalog, established=False))
        old = await stack.enter_async_context(World.of(blue, deriving.catalog, established=False))
        await ready(new)
        assert [(await page(new, origin))[0] for origin in AIRPORTS] == ["hit"] * len(AIRPORTS)
        for world, shown in ((new, {"_id", "origin"}), (old, {"_id", "origin", "gate"})):
            answer = await world.http.get(f"/v1/{RESOURCE}/-/lists/departures?origin=JFK")
            assert all(item.keys() == shown for item in answer.json()["items"])
