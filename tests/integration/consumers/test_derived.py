"""Derived data on real servers: built, kept, rebuilt, and never different from what MongoDB says."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from neverstale.role import telemetry
from neverstale.settings import Settings
from tests.support.waiting import eventually
from tests.worlds.deriving import Deriving, Writer, catalog_of


@pytest.fixture
async def deriving(settings: Settings, database: str) -> AsyncIterator[Deriving]:
    async with Deriving.on(settings, catalog_of(database)) as deriving:
        yield deriving


async def test_what_was_there_before_is_counted_after_a_walk(deriving: Deriving) -> None:
    writer = Writer(deriving, seed=1, keys=200)
    await deriving.documents.insert_many([writer.document(f"k{number}") for number in range(200)])
    async with deriving.watcher(), deriving.consumer():
        await deriving.until_complete()
        await deriving.until_right()


async def test_keys_of_any_type_are_counted(deriving: Deriving) -> None:
    writer = Writer(deriving, seed=1)
    keys = [1, 2.5, True, {"a": 1}, b"\1\2", "k"]
    await deriving.documents.insert_many([writer.document("") | {"_id": key} for key in keys])
    async with deriving.watcher(), deriving.consumer():
        await deriving.until_complete()
        await deriving.until_right()


async def test_every_change_is_counted_once_and_no_page_misses_one(deriving: Deriving) -> None:
    writer = Writer(deriving, seed=2)
    async with deriving.watcher(), deriving.consumer():
        await deriving.until_complete()
        for turn in range(300):
            await writer.write()
            if turn % 20 == 0:
                await deriving.fill_pages()
        await deriving.until_right()
        await no_page_is_stale(deriving)
    assert len(deriving.pages) > 100


async def test_a_lost_hash_leads_to_another_generation(deriving: Deriving) -> None:
    writer = Writer(deriving, seed=3)
    async with deriving.watcher(), deriving.consumer():
        first = await deriving.until_complete()
        await deriving.redis.delete(deriving.store.names.of(first.id).counter("totals"))
        for _ in range(20):
            await writer.write()

        async def another() -> bool:
            known = (await deriving.store.generations()).complete
            return known is not None and known.id != first.id

        await eventually(another, "another generation serves", 60)
        await deriving.until_right()


@pytest.mark.parametrize("kind", ["bucket", "tags", "counter", "sizes", "sorted set"])
async def test_what_no_change_touches_any_more_is_missed_too(deriving: Deriving, kind: str) -> None:
    writer = Writer(deriving, seed=6, keys=100)
    await deriving.documents.insert_many([writer.document(f"k{number}") for number in range(100)])
    async with deriving.watcher(), deriving.consumer():
        first = await deriving.until_complete()
        own, redis = deriving.store.names.of(first.id), deriving.redis
        gone = {
            "bucket": own.bucket(first.buckets - 1),
            "tags": own.tags("tagged"),
            "counter": own.counter("by_status"),
            "sizes": own.sizes("late"),
            "sorted set": own.ranking("early", ""),
        }[kind]
        # Long enough for several rounds: nothing is found missing in what is whole.
        await asyncio.sleep(3)
        assert (await deriving.store.generations()).complete == first
        assert await redis.delete(gone) == 1

        async def another() -> bool:
            known = (await deriving.store.generations()).complete
            return known is not None and known.id != first.id

        await eventually(another, "another generation serves", 60)
        await deriving.until_right()


async def test_a_number_that_a_sum_cannot_hold_is_said_when_it_comes(deriving: Deriving) -> None:
    labels = {"resource": "flights", "counter": "totals"}

    def said() -> float:
        return telemetry.REGISTRY.get_sample_value("neverstale_derived_unsummable_total", labels) or 0.0

    writer, before = Writer(deriving, seed=7), said()
    async with deriving.watcher(), deriving.consumer():
        await deriving.until_complete()
        await deriving.documents.insert_one(writer.document("fits") | {"delay": 0.1})
        await deriving.documents.insert_one(writer.document("fine") | {"delay": 0.12})
        await deriving.documents.insert_one(writer.document("huge") | {"delay": 2**62})

        async def both() -> bool:
            return said() == before + 2

        await eventually(both, "two documents are said not to fit", 30)
        await deriving.documents.delete_one({"_id": "fine"})
        await deriving.until_right()
        assert said() == before + 2


async def test_a_dropped_collection_leaves_nothing_counted(deriving: Deriving) -> None:
    writer = Writer(deriving, seed=4)
    async with deriving.watcher(), deriving.consumer():
        first = await deriving.until_complete()
        for _ in range(50):
            await writer.write()
        await deriving.documents.drop()

        async def another() -> bool:
            known = (await deriving.store.generations()).complete
            return known is not None and known.id != first.id

        await eventually(another, "another generation serves", 60)
        await deriving.until_right()


async def test_another_declaration_is_built_beside_the_old_one(deriving: Deriving) -> None:
    writer = Writer(deriving, seed=5)
    async with deriving.watcher():
        async with deriving.consumer():
            first = await deriving.until_complete()
            await writer.write()
        changed = catalog_of(deriving.catalog.database, counters={"all": {}})
        deriving.catalog = changed
        async with deriving.consumer(changed):
            second = await deriving.until_complete(changed.resources["flights"].derived.text)
            await deriving.until_right()
    assert first.id != second.id
    assert not [key async for key in deriving.redis.scan_iter(f"{deriving.store.names.of(first.id).base}:*")]


async def no_page_is_stale(deriving: Deriving) -> None:
    async def none_is() -> bool:
        return not await deriving.stale_pages()

    # MongoDB is quiet; what is still on its way may be missing from pages until it is applied.
    try:
        await eventually(none_is, "no page that is valid misses a change", 20)
    except AssertionError:
        raise AssertionError(str((await deriving.stale_pages())[:3])) from None
