"""What nothing tells of is answered from MongoDB, without a bound, and never kept, whatever it was before."""

import asyncio
import datetime
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pymongo.asynchronous.database import AsyncDatabase

from neverstale.catalog import Catalog
from neverstale.mongodb import apply_ops
from neverstale.mongodb.kinds import Kinds
from neverstale.mongodb.loader import Loader
from tests.support.dropping import drop_database
from tests.support.waiting import eventually
from tests.worlds.api import World, settings_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

Database = AsyncDatabase[dict[str, Any]]

NAMES = ("plain", "view", "series", "capped", "changing", "late")
DERIVED: dict[str, Any] = {"lists": {"all": {}}, "counters": {"all": {}}, "rankings": {"top": {"score": "n"}}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mongo_uri: str, redis_url: str) -> AsyncIterator[World]:
    name = f"test_{secrets.token_hex(6)}"
    declared = {one: {"key_type": "string", **DERIVED} for one in NAMES}
    catalog = Catalog.model_validate({"database": name, "resources": declared})
    async with World.of(settings_of(mongo_uri, redis_url, name), catalog) as world:
        database = world.mongo[name]
        for kind in ("view", "series", "capped", "late"):
            await database.drop_collection(kind)
        await database["base"].insert_one({"_id": "a", "n": 1})
        await database["plain"].insert_one({"_id": "a", "n": 1})
        await database.create_collection("view", viewOn="base", pipeline=[])
        await database.create_collection("series", timeseries={"timeField": "t"})
        await database["series"].insert_one({"_id": "a", "t": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)})
        await database.create_collection("capped", capped=True, size=4096)
        await world.mark()
        yield world
        await asyncio.to_thread(drop_database, mongo_uri, name)


def database_of(world: World) -> Database:
    return world.mongo[world.catalog.database]


async def get(world: World, target: str, **headers: str) -> httpx.Response:
    return await world.http.get(f"/v1/{target}", headers=headers)


async def never_a_hit(world: World, target: str) -> None:
    """However often it is asked for."""
    for _ in range(4):
        answer = await get(world, target)
        assert "detail=mongodb" in answer.headers["cache-status"], target
        assert answer.headers["neverstale-bound"] == "unknown", target
        await asyncio.sleep(0.02)  # a fill would follow the answer


async def until_hit(world: World, target: str) -> None:
    async def hit() -> bool:
        return "; hit" in (await get(world, target)).headers["cache-status"]

    await eventually(hit, f"{target} is a hit")


@pytest.mark.parametrize("name", ["view", "series"])
@pytest.mark.parametrize("target", ["a", "missing", "-/lists/all", "-/counters/all", "-/rankings/top"])
async def test_what_has_no_change_stream_is_never_kept_and_has_no_bound(world: World, name: str, target: str) -> None:
    await never_a_hit(world, f"{name}/{target}")


async def test_an_ordinary_collection_beside_them_is_kept(world: World) -> None:
    await until_hit(world, "plain/a")
    await until_hit(world, "plain/missing")


@pytest.mark.parametrize("name", ["view", "series", "capped"])
async def test_it_is_said_in_freshness_and_in_readyz(world: World, name: str) -> None:
    async def said() -> bool:
        parts = (await world.http.get("/readyz")).json()["parts"]
        return f"{name}.collection" in parts

    await eventually(said, "/readyz says it")
    assert (await world.http.get("/readyz")).status_code == 200
    told = (await get(world, "freshness")).json()["resources"]
    assert told[name]["bound"] is None
    assert told[name]["watermark"] is None
    assert name in told[name]["why"]
    assert told["plain"]["bound"] is not None


async def test_nothing_of_a_view_that_took_a_collections_place_is_kept(world: World) -> None:
    database = database_of(world)
    await database["changing"].insert_one({"_id": "a", "n": 0})
    await until_hit(world, "changing/a")
    for _ in range(3):
        await database.drop_collection("changing")
        await database.create_collection("changing", viewOn="base", pipeline=[])
        await world.raise_floor("changing", await world.loader.now())  # what consumers do about the drop
        await world.mark()
        await never_a_hit(world, "changing/a")
        await database.drop_collection("changing")
        await database["changing"].insert_one({"_id": "a", "n": 0})
        await until_hit(world, "changing/a")


async def test_an_absence_in_a_collection_that_does_not_exist_is_not_kept(world: World) -> None:
    """Nobody would tell us that a view is made under its name."""
    for _ in range(3):
        answer = await get(world, "late/a")
        assert answer.status_code == 404
        assert "detail=mongodb" in answer.headers["cache-status"]
        assert answer.headers["neverstale-bound"] != "unknown"
        await asyncio.sleep(0.02)
    await database_of(world)["late"].insert_one({"_id": "a"})
    await until_hit(world, "late/a")


async def test_a_fill_is_refused_however_the_drop_and_the_read_lie(world: World) -> None:
    """The loader knows the collection as ordinary, and reads what has taken its place meanwhile."""
    name = f"swapped{secrets.token_hex(3)}"
    database = database_of(world)
    resource = world.catalog.resources["plain"].model_copy(update={"name": name, "collection": name})
    for replace in (True, False):
        loader = Loader(world.mongo, world.catalog.database, 5000)
        await database[name].insert_one({"_id": "a"})
        assert (await loader.load(resource, ["a"], 0)).kind.told
        await database.drop_collection(name)
        if replace:
            await database.create_collection(name, viewOn="base", pipeline=[])
        snapshot = await loader.load(resource, ["a"], 0)
        assert not snapshot.kind.told
        assert (b"{" in snapshot.bodies.get("s:a", b"")) is replace
        await database.drop_collection(name)


async def test_without_a_check_by_the_server_what_changes_during_a_read_is_not_kept(world: World) -> None:
    """As on MongoDB 5, or where our user may not see UUIDs."""
    name = f"old{secrets.token_hex(3)}"
    database = database_of(world)
    resource = world.catalog.resources["plain"].model_copy(update={"name": name, "collection": name})
    kinds = Kinds(database, 5000)
    kinds.by_uuid = False
    loader = Loader(world.mongo, world.catalog.database, 5000, kinds)
    await database[name].insert_one({"_id": "a"})
    assert (await loader.load(resource, ["a"], 0)).kind.told
    await database.drop_collection(name)
    await database.create_collection(name, viewOn="base", pipeline=[])
    assert not (await loader.load(resource, ["a"], 0)).kind.told
    await database.drop_collection(name)


async def test_a_server_that_does_not_know_the_check_is_asked_without_it(world: World) -> None:
    kinds = Kinds(database_of(world), 5000)
    loader = Loader(world.mongo, world.catalog.database, 5000, kinds)
    data = {"failCommands": ["find"], "errorCode": 40415, "namespace": f"{world.catalog.database}.plain"}
    await world.mongo.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
    snapshot = await loader.load(world.catalog.resources["plain"], ["a"], 0)
    assert snapshot.kind.told
    assert not kinds.by_uuid


async def test_without_the_privilege_to_list_collections_kinds_are_still_told(world: World) -> None:
    """MongoDB answers names and types of what a user may read."""
    kinds = Kinds(database_of(world), 5000)
    data = {"failCommands": ["listCollections"], "errorCode": 13}
    await world.mongo.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
    assert (await kinds.look("plain")).told
    await world.mongo.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
    assert not (await kinds.look("view")).told


async def test_the_gap_of_apply_ops_is_said_in_freshness_and_in_readyz_while_there_is_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def said() -> bool:
        await world.state.apply_ops.look()
        parts, notes = (
            (await world.http.get("/readyz")).json()["parts"],
            (await get(world, "freshness")).json()["notes"],
        )
        assert [parts[apply_ops.PART]] == notes if notes else apply_ops.PART not in parts
        return any("neverstale resync" in note for note in notes)

    version = (await world.mongo.admin.command("buildInfo"))["versionArray"]
    assert await said() is not apply_ops.is_told(version)
    for since, expected in (((99, 0), True), ((1, 0), False), ((99, 0), True)):
        monkeypatch.setattr(apply_ops, "TOLD_SINCE", since)
        assert await said() is expected
    assert (await world.http.get("/readyz")).status_code == 200
