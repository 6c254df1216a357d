"""An answer that misses a write says so in its bound; and without that rule it does not."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.api_world import World, catalog_of, settings_of
from tests.faults.sabotage import without

WRITES = 5


@pytest.fixture
async def world(
    mongo_uri: str, redis_url: str, database: str, redis_prefix: str, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """Perhaps without a rule."""
    with without(getattr(request, "param", None)):
        async with World.of(settings_of(mongo_uri, redis_url, redis_prefix), catalog_of(database)) as world:
            yield world


async def broken_bounds(world: World) -> int:
    """How many of some answers missed a write that was acknowledged longer ago than they said.

    The writes are never applied, so the cache knows nothing of them.
    """
    await world.write("things", {"_id": "a", "n": 0})
    await world.http.get("/v1/things/a")
    await world.until_filled("things", "a")
    await world.mark()
    broken = 0
    for number in range(1, WRITES + 1):
        await world.write("things", {"_id": "a", "n": number})
        acknowledged = time.monotonic()
        await asyncio.sleep(0.01)  # the write grows old
        asked = time.monotonic()
        answer = await world.http.get("/v1/things/a")
        assert "; hit;" in answer.headers["cache-status"]
        assert answer.json()["n"] == 0
        broken += acknowledged < asked - float(answer.headers["neverstale-bound"])
    return broken


async def test_what_misses_a_write_says_that_it_may(world: World) -> None:
    assert await broken_bounds(world) == 0


@pytest.mark.parametrize("world", ["the bound is ignored"], indirect=True)
async def test_without_the_bound_every_such_answer_breaks_its_word(world: World) -> None:
    assert await broken_bounds(world) == WRITES
