"""Stale bodies that are served at once while one read brings the new one, where the catalog asks for it."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from neverstale.catalog import Catalog
from neverstale.versions import to_hex
from tests.faults.rig.sabotage import without
from tests.integration.api.test_reads import Gap, until
from tests.worlds.api import World, loads, settings_of

LIMIT_SECONDS = 30
STALE = "neverstale; fwd=stale; detail=l2"
RESOURCES = {
    "things": {"key_type": "string", "stale_while_revalidate_seconds": LIMIT_SECONDS, "on_change": "invalidate"},
    "strict": {"key_type": "string", "on_change": "invalidate"},
}


@pytest.fixture
async def world(mongo_uri: str, redis_url: str, database: str, redis_prefix: str) -> AsyncIterator[World]:
    catalog = Catalog.model_validate({"database": database, "resources": RESOURCES})
    settings = settings_of(mongo_uri, redis_url, redis_prefix)
    # Else what was read a moment ago would be known to be young, whatever the marks say.
    with without("reads of MongoDB prove their age"):
        async with World.of(settings, catalog) as world:
            yield world


async def make_stale(world: World, resource: str = "things", *, seconds_ago: float = 0) -> None:
    """The first value is in Redis and void, the second is in MongoDB."""
    await world.write(resource, {"_id": "a", "n": 1})
    await world.mark(wall_ms=round(await world.primary_ms() - 1000 * seconds_ago))
    await ask(world, resource)
    await world.until_filled(resource, "a")
    await world.apply(resource, ["a"], await world.write(resource, {"_id": "a", "n": 2}))


async def ask(world: World, resource: str = "things", **headers: str) -> httpx.Response:
    return await world.http.get(f"/v1/{resource}/a", headers={key.replace("_", "-"): headers[key] for key in headers})


async def test_a_stale_body_is_served_at_once_and_one_read_fills_the_cache(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_stale(world)
    before, gap = loads("things"), Gap(monkeypatch)
    answers = [await ask(world) for _ in range(5)]
    await until(1, gap.read, "the read that renews it")
    assert {(answer.json()["n"], answer.headers["cache-status"]) for answer in answers} == {(1, STALE)}
    gap.go.set()
    assert (await world.until_filled("things", "a")).body == b'{"_id":"a","n":2}'
    assert loads("things") - before == 1
    assert (await ask(world)).json()["n"] == 2


async def test_the_bound_of_a_stale_body_counts_from_when_it_was_read(world: World) -> None:
    await make_stale(world, seconds_ago=7)
    answer = await ask(world)
    assert answer.headers["cache-status"] == STALE
    assert 7 <= float(answer.headers["neverstale-bound"]) < LIMIT_SECONDS
    assert int(answer.headers["age"]) >= 7


async def test_a_body_that_may_be_older_than_the_limit_is_not_served(world: World) -> None:
    await make_stale(world, seconds_ago=LIMIT_SECONDS)
    assert (await ask(world)).json()["n"] == 2


async def test_a_body_of_unknown_age_is_not_served(world: World) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    await ask(world)
    await world.until_filled("things", "a")
    await world.mark()  # later than the body
    await world.apply("things", ["a"], await world.write("things", {"_id": "a", "n": 2}))
    assert (await ask(world)).json()["n"] == 2


async def test_where_the_catalog_does_not_ask_for_it_no_stale_body_is_served(world: World) -> None:
    await make_stale(world, "strict")
    assert (await ask(world, "strict")).json()["n"] == 2


@pytest.mark.parametrize("demand", ["no-cache", "max-age=5"])
async def test_a_demand_that_the_stale_body_does_not_meet_is_met_by_mongodb(world: World, demand: str) -> None:
    await make_stale(world, seconds_ago=7)
    assert (await ask(world, cache_control=demand)).json()["n"] == 2


async def test_a_demand_that_the_stale_body_meets_is_met_by_it(world: World) -> None:
    await make_stale(world, seconds_ago=2)
    assert (await ask(world, cache_control="max-age=25")).headers["cache-status"] == STALE


async def test_a_stale_body_is_no_answer_that_the_cache_has(world: World) -> None:
    await make_stale(world)
    assert (await ask(world, cache_control="only-if-cached")).status_code == 504


async def test_a_writer_reads_its_own_write_and_not_the_stale_body(world: World) -> None:
    await make_stale(world)
    version = await world.write("things", {"_id": "a", "n": 3})
    assert (await ask(world, neverstale_min_version=to_hex(version))).json()["n"] == 3


async def test_once_the_new_value_was_served_the_old_one_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_stale(world)
    filling, go = asyncio.Event(), asyncio.Event()
    offer = world.reader._misses._fills.offer

    async def held_up(fills: object) -> None:
        filling.set()
        await go.wait()
        await offer(fills)  # type: ignore[arg-type]

    monkeypatch.setattr(world.reader._misses._fills, "offer", held_up)
    assert (await ask(world)).json()["n"] == 1
    await filling.wait()
    assert (await ask(world)).json()["n"] == 2
    go.set()
    await world.until_filled("things", "a")
