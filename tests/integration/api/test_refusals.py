"""What MongoDB refuses is blamed on the smallest thing that it can be blamed on; everything else is served."""

import asyncio
import secrets
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio

from neverstale import __version__
from neverstale.api.derived import cursors
from neverstale.catalog import Catalog
from neverstale.errors import Refused
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.refusals import TABLE, Row
from neverstale.mongodb.replies import RawReply
from neverstale.role import telemetry
from tests.support.dropping import drop_database
from tests.support.waiting import eventually
from tests.worlds.api import RESOURCES, World, settings_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTS: dict[str, Any] = {
    "key_type": "string",
    "lists": {"by_kind": {"by": ["kind"], "sort": ["score"], "page_size": 1}},
}
FAILURES = 1
UNMADE = (72, 169, 249, 361, 13388)
"""InvalidOptions says that a version lies in the future; the others come with details, which a fail point lacks."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mongo_uri: str, redis_url: str) -> AsyncIterator[World]:
    """A breaker that opens soon, and for a short time only."""
    name = f"test_{secrets.token_hex(6)}"
    settings = settings_of(mongo_uri, redis_url, name, breaker_failures=FAILURES, breaker_open_ms=20)
    declared = RESOURCES | {"capped": {"key_type": "string"}, "listed": LISTS}
    catalog = Catalog.model_validate({"database": name, "resources": declared})
    async with World.of(settings, catalog) as world:
        await world.write("things", {"_id": "a"})
        await world.write("numbers", {"_id": 1})
        yield world
        await asyncio.to_thread(drop_database, mongo_uri, name)


@asynccontextmanager
async def failing(world: World, code: int, commands: tuple[str, ...] = ("find",)) -> AsyncIterator[None]:
    """Every read of things by the API fails with this code."""
    data = {
        "failCommands": list(commands),
        "errorCode": code,
        "namespace": f"{world.catalog.database}.things",
        "appName": f"neverstale/{__version__}",
    }
    await world.mongo.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
    try:
        yield
    finally:
        await world.mongo.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def breaker_is_open() -> bool:
    return telemetry.REGISTRY.get_sample_value("neverstale_breaker_open", {"server": "mongodb"}) == 1


def refused(source: str, code: int) -> float:
    return (
        telemetry.REGISTRY.get_sample_value("neverstale_refused_total", {"source": source, "code": str(code)}) or 0.0
    )


async def get(world: World, target: str) -> httpx.Response:
    return await world.http.get(f"/v1/{target}")


async def served_again(world: World) -> None:
    async def answers() -> bool:
        return (await get(world, f"things/{secrets.token_hex(4)}")).status_code == 404 and not breaker_is_open()

    await eventually(answers, "things are read again")


def rows() -> Iterator[Any]:
    for code, row in TABLE.items():
        if code in UNMADE:
            continue
        yield pytest.param(code, row, id=f"{code}-{row.name}")
    yield pytest.param(4_711, Row("Location4711", "request"), id="unknown")


@pytest.mark.parametrize(("code", "row"), list(rows()))
async def test_a_code_of_the_table_harms_what_it_is_blamed_on_and_nothing_else(
    world: World, code: int, row: Row
) -> None:
    counted = refused("things", code)
    async with failing(world, code):
        answers = [await get(world, f"things/{secrets.token_hex(4)}") for _ in range(FAILURES + 1)]
        is_open = breaker_is_open()
        neighbour = await get(world, f"numbers/{secrets.randbelow(10**9)}")
    kind = answers[0].json()["type"].removeprefix("urn:neverstale:")
    status = {answer.status_code for answer in answers}
    if row.blame == "outage":
        assert (status, kind, is_open) == ({503}, "unavailable", True)
        assert refused("things", code) == counted
    else:
        assert not is_open
        assert neighbour.status_code == 404
        if row.blame == "too_much":
            assert (status, kind) == ({503}, "too-slow")
        else:
            passes = row.heals or row.blame in ("collection", "user")
            assert (status, kind) == ({503 if passes else 500}, "refused")
            assert answers[0].json()["refusal"]["code"] == code
            assert row.remedy in answers[0].json()["detail"]
            assert refused("things", code) > counted
    await served_again(world)


async def test_a_capped_collection_is_refused_for_itself_with_the_remedy(world: World) -> None:
    database = world.mongo[world.catalog.database]
    await database.drop_collection("capped")
    await database.create_collection("capped", capped=True, size=4096)
    for _ in range(5):
        answer = await get(world, "capped/a")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert answer.json()["refusal"]["name"] == "SnapshotUnavailable"
        assert "capped" in answer.json()["detail"]
    assert (await get(world, f"things/{secrets.token_hex(4)}")).status_code == 404
    ready = await world.http.get("/readyz")
    assert ready.status_code == 200
    assert "246 SnapshotUnavailable" in ready.json()["parts"]["capped"]

    await database.drop_collection("capped")
    await database["capped"].insert_one({"_id": "a"})

    async def answers() -> bool:
        return (await get(world, "capped/a")).status_code == 200

    await eventually(answers, "what is not capped any more is read")
    assert "capped" not in (await world.http.get("/readyz")).json()["parts"]


async def test_a_list_that_no_index_serves_is_refused_for_itself(world: World) -> None:
    await world.write("listed", {"_id": "a", "kind": "k", "score": 1})
    await world.mongo.admin.command({"setParameter": 1, "notablescan": True})
    try:
        for _ in range(4):
            page = await get(world, "listed/-/lists/by_kind?kind=k")
            assert page.status_code == 503
            assert "--create-indexes" in page.json()["detail"]
        assert (await get(world, "listed/a")).status_code == 200
        assert not breaker_is_open()
        assert "291" in (await world.http.get("/readyz")).json()["parts"]["listed.lists.by_kind"]
    finally:
        await world.mongo.admin.command({"setParameter": 1, "notablescan": False})

    async def answers() -> bool:
        return (await get(world, "listed/-/lists/by_kind?kind=k")).status_code == 200

    await eventually(answers, "the list is read again")


async def test_neighbours_are_served_while_a_collection_refuses_thousands_of_times(world: World) -> None:
    async with failing(world, 13):
        for _ in range(20):
            await get(world, f"things/{secrets.token_hex(4)}")
        asked = refused("things", 13)
        for _ in range(500):
            assert (await get(world, f"things/{secrets.token_hex(4)}")).status_code == 503
        assert refused("things", 13) - asked <= 3
        assert (await get(world, "numbers/1")).status_code == 200
    await served_again(world)


@pytest.fixture
def refusing_one(monkeypatch: pytest.MonkeyPatch) -> str:
    """A key that no read may name: MongoDB refuses each that does, for good."""
    original = Loader._command

    async def refused(loader: Loader, command: dict[str, Any], *more: Any) -> RawReply:
        if "bad-" in str(command.get("filter", "")):
            raise Refused(4_711, "Location4711", "request", "", heals=False)
        return await original(loader, command, *more)

    monkeypatch.setattr(Loader, "_command", refused)
    return f"bad-{secrets.token_hex(4)}"


@pytest.mark.parametrize("place", [0, 3, 7])
@pytest.mark.parametrize("demand", [{}, {"cache-control": "no-cache"}], ids=["missed", "demanded"])
async def test_what_is_refused_of_one_key_is_that_items_problem_and_no_others(
    world: World, refusing_one: str, place: int, demand: dict[str, str]
) -> None:
    keys = [secrets.token_hex(4) for _ in range(7)]
    await world.write("things", *({"_id": key} for key in keys[1:]))
    keys.insert(place, refusing_one)
    answer = await world.http.get(f"/v1/things?keys={','.join(keys)}", headers=demand)
    assert answer.status_code == 200
    items = answer.json()["items"]
    assert [item["key"] for item in items] == keys
    [problem] = [item["problem"] for item in items if "problem" in item]
    assert (items[place].keys(), problem["status"], problem["refusal"]["code"]) == ({"key", "problem"}, 500, 4711)
    assert sum(item.get("value") is not None for item in items) == 6
    again = await world.http.get(
        f"/v1/things?keys={','.join(keys)}", headers={"if-none-match": answer.headers["etag"]}
    )
    assert again.status_code == 304


async def test_what_is_refused_of_every_key_is_the_whole_answers_problem(world: World, refusing_one: str) -> None:
    for keys in ([refusing_one], [f"{refusing_one}-{number}" for number in range(3)]):
        answer = await get(world, f"things?keys={','.join(keys)}")
        assert (answer.status_code, answer.json()["type"]) == (500, "urn:neverstale:refused")


@pytest.mark.parametrize("code", [13, 246, 11600])
async def test_what_a_later_try_may_mend_refuses_all_keys_at_once(world: World, code: int) -> None:
    held = secrets.token_hex(4)
    await world.write("things", {"_id": held})

    async def hit() -> bool:
        return "; hit" in (await get(world, f"things/{held}")).headers["cache-status"]

    await eventually(hit, "one of them is cached")
    async with failing(world, code):
        answer = await get(world, f"things?keys={held},{secrets.token_hex(4)}")
        assert answer.status_code == 503
        assert "items" not in answer.json()
    await served_again(world)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "score", [deep(178), "x" * 10_000, {"$gt": 1}, {"$where": "1"}], ids=["deep", "long", "op", "js"]
)
async def test_whatever_a_list_is_sorted_by_its_pages_follow_each_other(world: World, score: Any) -> None:
    kind = secrets.token_hex(4)
    for name in "abc":
        await world.write("listed", {"_id": f"{kind}-{name}", "kind": kind, "score": score})
    found, cursor = [], ""
    for _ in range(3):
        page = await get(world, f"listed/-/lists/by_kind?kind={kind}{cursor}")
        assert page.status_code == 200, page.text
        found += [item["_id"].removeprefix(f"{kind}-") for item in page.json()["items"]]
        cursor = f"&cursor={page.json()['next']}"
    assert found == ["a", "b", "c"]
    assert page.json()["next"] is None


@pytest.mark.parametrize("levels", [150, 179, 180, 198, 1_000])
async def test_a_forged_cursor_is_a_bad_one_or_a_good_one(world: World, levels: int) -> None:
    resource = world.catalog.resources["listed"]
    owner = cursors.owner(resource.derived.digests()["lists.by_kind"], "s:k")
    inner = b"\x05\0\0\0\0"
    for kind, name in [*[(b"\3", b"a")] * (levels - 1), (b"\3", b"0")]:
        inner = (len(inner) + len(name) + 7).to_bytes(4, "little") + kind + name + b"\0" + inner + b"\0"
    positions = inner[:-1] + b"\x021\0\2\0\0\0x\0\0"  # and the `_id` behind it
    positions = len(positions).to_bytes(4, "little") + positions[4:]
    whole = b"\4\0" + positions + b"\0"
    data = bytes((cursors.FORMAT,)) + owner[:6] + b"\0\t" + (len(whole) + 4).to_bytes(4, "little") + whole
    text = urlsafe_b64encode(data + cursors._signature(data, owner)).rstrip(b"=").decode()
    for _ in range(FAILURES + 1):
        answer = await get(world, f"listed/-/lists/by_kind?kind=k&cursor={text}")
        assert answer.status_code == (200 if levels <= 180 else 400), answer.text
    assert (await get(world, f"things/{secrets.token_hex(4)}")).status_code == 404
    assert not breaker_is_open()
