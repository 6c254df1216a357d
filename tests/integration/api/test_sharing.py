"""Reads are shared, in a process and between processes; and without the rule that sees to it they are not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from neverstale.role import telemetry
from tests.faults.rig.sabotage import without
from tests.integration.api.test_reads import Gap, get, until
from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, loads, settings_of

GETS = 50
Processes = tuple[World, World]


@pytest.fixture
async def processes(
    mongo_uri: str, redis_url: str, database: str, redis_prefix: str, request: pytest.FixtureRequest
) -> AsyncIterator[Processes]:
    """Two APIs on the same servers, perhaps without a rule."""
    async with AsyncExitStack() as stack:
        stack.enter_context(without(getattr(request, "param", None)))
        settings = settings_of(mongo_uri, redis_url, redis_prefix, wait_ms=2000)
        first = await stack.enter_async_context(World.of(settings, catalog_of(database)))
        second = await stack.enter_async_context(World.of(settings, catalog_of(database), established=False))
        await first.write("things", {"_id": "a", "n": 1})
        yield first, second


def leases_asked() -> float:
    """So far, by both."""
    return sum(
        sample.value
        for family in telemetry.REGISTRY.collect()
        for sample in family.samples
        if sample.name == "neverstale_leases_total"
    )


async def asked_one_by_one(world: World, monkeypatch: pytest.MonkeyPatch) -> float:
    """Each get comes in a turn of its own, while the first's read is under way. Answers how many leases that took."""
    before, gap = leases_asked(), Gap(monkeypatch)
    gets = [asyncio.create_task(get(world, "a"))]
    await until(1, gap.read, "the first read")
    for _ in range(GETS):
        gets.append(asyncio.create_task(get(world, "a")))
        await asyncio.sleep(0.002)
    asked = leases_asked() - before
    gap.go.set()
    assert {answer.body for answer in await asyncio.gather(*gets)} == {b'{"_id":"a","n":1}'}
    return asked


async def read_by_both(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> float:
    """Both miss while the first that got the lease reads. Answers how often MongoDB was read."""
    before, gap = loads("things"), Gap(monkeypatch)
    asked = leases_asked()
    gets = [asyncio.create_task(get(world, "a")) for world in processes]

    async def both_asked() -> bool:
        return leases_asked() >= asked + 2

    await eventually(both_asked, "both ask for the lease")
    gap.go.set()
    await asyncio.gather(*gets)
    return loads("things") - before


async def test_gets_of_one_key_are_one_flight(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await asked_one_by_one(processes[0], monkeypatch) == 1


@pytest.mark.parametrize("processes", ["no single flight"], indirect=True)
async def test_without_single_flight_they_are_many(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await asked_one_by_one(processes[0], monkeypatch) > GETS / 2


async def test_two_processes_read_one_key_once(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await read_by_both(processes, monkeypatch) == 1


@pytest.mark.parametrize("processes", ["leases are always granted"], indirect=True)
async def test_without_leases_each_reads_it(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await read_by_both(processes, monkeypatch) == 2
