"""The most read documents, on a real Redis."""

from collections.abc import AsyncIterator

import pytest

from neverstale.catalog import Catalog
from neverstale.consumers.most_read import Favourites
from neverstale.keys import Names
from neverstale.redis.cache import Cache
from neverstale.redis.most_read import Popularity
from neverstale.servers import redis_client
from neverstale.settings import RedisSettings

DAY = 86_400.0


@pytest.fixture
async def cache(redis_url: str, redis_prefix: str) -> AsyncIterator[Cache]:
    redis = redis_client(RedisSettings.model_validate({"url": redis_url}), timeout_ms=5000)
    yield Cache(redis, Names(redis_prefix))
    await redis.aclose()


async def test_the_most_read_come_first_with_their_reads(cache: Cache) -> None:
    reads = Popularity(cache, DAY)
    await reads.add("things", {"s:a": 1, "s:b": 5})
    await reads.add("things", {"s:a": 1, "s:c": 3})
    found = await reads.most("things", 2)
    assert [(one.key, round(one.reads, 3), one.rank) for one in found] == [("s:b", 5, 1), ("s:c", 3, 2)]
    assert await reads.most("others", 2) == []


async def test_one_document_has_reads_and_a_rank(cache: Cache) -> None:
    reads = Popularity(cache, DAY)
    await reads.add("things", {"s:a": 2, "s:b": 5})
    found = await reads.of("things", "s:a")
    assert found is not None
    assert (round(found.reads, 3), found.rank) == (2, 2)
    assert await reads.of("things", "s:c") is None


async def test_a_read_counts_half_after_a_half_life(cache: Cache) -> None:
    reads = Popularity(cache, DAY)
    await reads.add("things", {"s:a": 1000})
    await age(cache, DAY)
    found = await reads.of("things", "s:a")
    assert found is not None and found.reads == pytest.approx(500, rel=0.01)


async def age(cache: Cache, seconds: float) -> int:
    """What was counted until now was counted so much earlier; answers when counting began, before that."""
    since = f"{cache.names.prefix}:{{things}}:reads:since"
    began = int((await cache.send(("HGET", since, "since")))[0])
    await cache.send(("HSET", since, "since", began - round(seconds * 1000)))
    return began


async def test_weights_are_divided_before_they_overflow(cache: Cache) -> None:
    reads = Popularity(cache, DAY)
    await reads.add("things", {"s:a": 8})
    began = await age(cache, 101 * DAY)
    await reads.add("things", {"s:b": 1})
    most = await reads.most("things", 2)
    assert [(one.key, round(one.reads, 3)) for one in most] == [("s:b", 1), ("s:a", 0)]
    assert await age(cache, 0) >= began


async def test_another_half_life_begins_anew(cache: Cache) -> None:
    await Popularity(cache, DAY).add("things", {"s:a": 8})
    await Popularity(cache, 2 * DAY).add("things", {"s:b": 1})
    assert [one.key for one in await Popularity(cache, 2 * DAY).most("things", 9)] == ["s:b"]


async def test_no_more_than_the_most_are_kept(cache: Cache) -> None:
    reads = Popularity(cache, DAY, most=3)
    await reads.add("things", {f"s:{number}": number for number in range(1, 6)})
    assert [one.key for one in await reads.most("things", 9)] == ["s:5", "s:4", "s:3"]


async def test_whoever_only_asks_leaves_the_half_life_alone(cache: Cache) -> None:
    await Popularity(cache, DAY).add("things", {"s:a": 8})
    assert [round(one.reads, 3) for one in await Popularity(cache, 2 * DAY).most("things", 9)] == [8]
    assert [round(one.reads, 3) for one in await Popularity(cache, DAY).most("things", 9)] == [8]


async def test_favourites_are_what_is_read_often_where_a_second_chance_is_given(cache: Cache) -> None:
    auto, never = {"key_type": "string"}, {"key_type": "string", "on_change": "invalidate"}
    catalog = Catalog.model_validate({"database": "x", "resources": {"things": auto, "others": never}})
    reads = Popularity(cache, DAY)
    for resource in catalog.resources:
        await reads.add(resource, {"s:often": 5, "s:once": 1})
    favourites = Favourites()
    await favourites.look(catalog, cache.names, reads)
    assert favourites.keys == {cache.names.entry("things", "s:often")}
