"""What is read how often, over HTTP."""

from collections.abc import AsyncIterator

import pytest

from neverstale.role import telemetry
from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, settings_of


@pytest.fixture
async def world(mongo_uri: str, redis_url: str, database: str, redis_prefix: str) -> AsyncIterator[World]:
    settings = settings_of(mongo_uri, redis_url, redis_prefix, reads_flush_ms=20)
    async with World.of(settings, catalog_of(database)) as world:
        yield world


async def most_read(world: World, resource: str, wanted: list[tuple[object, int, int]]) -> None:
    """Wait until these are the most read: key, reads and rank."""
    told: list[object] = []

    async def so() -> bool:
        items = (await world.http.get(f"/v1/{resource}/-/most-read")).json()["items"]
        told[:] = [(item["key"], round(item["reads"]), item["rank"]) for item in items]
        return told == wanted

    await eventually(so, f"{wanted}")


async def test_reads_of_documents_are_counted_however_they_are_answered(world: World) -> None:
    await world.write("things", {"_id": "a"}, {"_id": "b"})
    await world.http.get("/v1/things/a")  # a miss
    await world.until_filled("things", "a")
    await world.mark()
    for _ in range(3):
        await world.http.get("/v1/things/a")  # hits
    await world.http.get("/v1/things/a", headers={"Cache-Control": "no-cache"})
    await world.http.get("/v1/things?keys=a,b,absent")
    await most_read(world, "things", [("a", 6, 1), ("b", 1, 2)])


async def test_what_an_auditor_asks_counts_as_no_read_however_it_is_answered(world: World) -> None:
    await world.write("things", {"_id": "a"}, {"_id": "b"})
    label, read, before = {"Neverstale-Audit": "1"}, counted(), audited()
    await world.http.get("/v1/things/a", headers=label)  # a miss
    assert audited() - before == 1
    await world.until_filled("things", "a")
    await world.mark()
    before = audited()
    for headers in ({}, {}, {"Cache-Control": "no-cache"}, {"Cache-Control": "only-if-cached"}):
        assert (await world.http.get("/v1/things/a", headers=headers | label)).status_code == 200
    await world.http.get("/v1/things?keys=a,b", headers=label)
    assert (counted(), audited() - before) == (read, 6)
    entry = await world.entry("things", "a")
    assert entry is not None and not entry.touched
    await world.http.get("/v1/things/b")
    await most_read(world, "things", [("b", 1, 1)])


def audited() -> float:
    return telemetry.REGISTRY.get_sample_value("neverstale_audited_total") or 0.0


def counted() -> float:
    """Documents that readers asked for, of all resources."""
    return sum(sample.value for family in telemetry.READS.collect() for sample in family.samples)


async def test_absent_documents_do_not_count(world: World) -> None:
    await world.write("numbers", {"_id": 7})
    for key in (7, 8, 8, 8):
        await world.http.get(f"/v1/numbers/{key}")
    await most_read(world, "numbers", [(7, 1, 1)])
    answer = await world.http.get("/v1/numbers/-/most-read/8")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:neverstale:unknown-key")


async def test_one_document_has_reads_and_a_rank(world: World) -> None:
    await world.write("numbers", {"_id": 7}, {"_id": 8})
    for key in (8, 8, 7):
        await world.http.get(f"/v1/numbers/{key}")
    await most_read(world, "numbers", [(8, 2, 1), (7, 1, 2)])
    one = (await world.http.get("/v1/numbers/-/most-read/7")).json()
    assert (one["key"], round(one["reads"]), one["rank"]) == (7, 1, 2)


@pytest.mark.parametrize("limit", ["0", "-1", "ten", "10001"])
async def test_a_limit_that_makes_no_sense_is_refused(world: World, limit: str) -> None:
    answer = await world.http.get("/v1/things/-/most-read", params={"limit": limit})
    assert (answer.status_code, answer.json()["parameter"]) == (400, "limit")
