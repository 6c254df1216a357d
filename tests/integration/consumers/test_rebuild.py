"""`neverstale rebuild`, and `--check`: what is counted is what MongoDB counts, and where it is not, that is found."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from neverstale.errors import Stop
from neverstale.ops.repair.drift import Drift, drift
from neverstale.ops.repair.rebuild import Rebuild, rebuild
from neverstale.settings import Settings, WatcherSettings
from tests.support.waiting import eventually
from tests.worlds.deriving import RESOURCE, Deriving, Writer, catalog_of, kill

COUNT = 100


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"watcher": WatcherSettings(lease_ms=1000)})


@pytest.fixture
async def deriving(settings: Settings, database: str) -> AsyncIterator[Deriving]:
    async with Deriving.on(settings, catalog_of(database)) as deriving:
        writer = Writer(deriving, seed=1)
        await deriving.documents.insert_many([writer.document(f"k{number}") for number in range(COUNT)])
        yield deriving


async def build(deriving: Deriving, name: str | None = None) -> Rebuild:
    return await rebuild(deriving.settings, deriving.catalog, RESOURCE, name, quiet=True)


async def check(deriving: Deriving, name: str | None = None) -> Drift:
    return await drift(deriving.settings, deriving.catalog, RESOURCE, name)


@asynccontextmanager
async def writing(deriving: Deriving) -> AsyncIterator[None]:
    """Changes that flow meanwhile."""
    writer = Writer(deriving, seed=2)

    async def write() -> None:
        while True:
            await writer.write()

    task = asyncio.create_task(write())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_rebuild_ends_in_another_generation_while_changes_flow(deriving: Deriving) -> None:
    async with deriving.watcher(), deriving.consumer():
        first = await deriving.until_complete()
        async with writing(deriving):
            done = await build(deriving, "by_status")
        second = await deriving.until_complete()
        assert (done.end, done.ok, done.joined, done.generation) == ("complete", True, False, second.id)
        assert first.id != second.id
        assert set(done.declarations) == set(second.digests)  # a generation is of the whole resource
        await deriving.until_right()


async def test_a_rebuild_that_was_left_is_joined(deriving: Deriving) -> None:
    async with deriving.consumer():
        await eventually(lambda: _is_building(deriving), "a generation is being built", 30)  # nobody walks for it
        building = asyncio.create_task(build(deriving))
        async with deriving.watcher() as first:
            await kill(first)
        async with deriving.watcher():
            done = await building
        assert (done.end, done.joined) == ("complete", True)


async def _is_building(deriving: Deriving) -> bool:
    return (await deriving.store.generations()).next is not None


async def test_nothing_has_drifted_while_changes_flow(deriving: Deriving) -> None:
    async with deriving.watcher(), deriving.consumer():
        await deriving.until_complete()
        async with writing(deriving):
            found = await check(deriving)
    assert (found.ok, found.differences, found.unknown) == (True, [], {})
    assert found.groups > 20
    assert set(found.declarations) == {
        *("counters.by_status", "counters.totals", "counters.by_tag", "rankings.late", "rankings.early")
    }


async def test_every_drifted_group_is_found_while_changes_flow(deriving: Deriving) -> None:
    async with deriving.watcher(), deriving.consumer():
        generation = await deriving.until_complete()
        await deriving.documents.insert_one({"_id": "quiet", "origin": "SFO", "status": "q", "day": 9, "delay": 7})
        await deriving.until_right()
        names = deriving.store.names.of(generation.id)
        await deriving.redis.hincrby(names.counter("by_status"), "n|s:SFO|s:q", 1)
        await deriving.redis.hincrby(names.counter("by_status"), "n|s:OAK|s:q", 1)
        await deriving.redis.zincrby(names.ranking("late", "i:9"), -1, "2quiet")
        async with writing(deriving):
            found = await check(deriving)
        assert [(one.declaration, one.group) for one in found.differences] == [
            ("counters.by_status", "s:OAK|s:q"),
            ("counters.by_status", "s:SFO|s:q"),
            ("rankings.late", "i:9"),
        ]
        assert (found.differences[0].redis, found.differences[0].mongodb) == ("1 documents", "0 documents")
        assert not found.ok
        assert (await check(deriving, "totals")).ok  # what is not named is not compared
        await build(deriving)
        assert (await check(deriving)).ok


async def test_a_drifted_group_under_change_is_never_taken_for_equal(deriving: Deriving) -> None:
    async with deriving.watcher(), deriving.consumer():
        generation = await deriving.until_complete()
        await deriving.redis.hincrby(deriving.store.names.of(generation.id).counter("totals"), "n|", 1)
        async with writing(deriving):
            found = await check(deriving, "totals")
    assert (found.groups, len(found.differences) + found.undecided) == (1, 1)


async def test_a_lost_counter_is_a_problem_and_what_another_redis_held_is_not_compared(deriving: Deriving) -> None:
    async with deriving.watcher(), deriving.consumer():
        generation = await deriving.until_complete()
        await check(deriving, "totals")
    # No consumer is there that would notice the loss and give up the generation.
    await deriving.redis.delete(deriving.store.names.of(generation.id).counter("totals"))
    found = await check(deriving, "totals")
    assert (found.unknown, found.declarations, found.ok) == ({"counters.totals": "lost"}, (), False)
    # Nor that another Redis has taken over.
    await deriving.store.change(lambda known: replace(known, all=(replace(generation, identity="another"),)))
    with pytest.raises(Stop, match="no generation of flights is complete"):
        await check(deriving, "totals")


async def test_without_a_generation_there_is_nothing_to_compare(deriving: Deriving) -> None:
    with pytest.raises(Stop, match="no generation of flights is complete"):
        await check(deriving)
