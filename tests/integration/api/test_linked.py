"""References and fields over HTTP, on real servers: what is shown, what it costs, and what is said of it."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest
import pytest_asyncio

from neverstale.catalog import Catalog
from neverstale.versions import to_hex
from tests.support.waiting import eventually
from tests.worlds.api import World, settings_of
from tests.worlds.hits import Served, header, status, unmoved
from tests.worlds.hits import body as body_of

RESOURCES: dict[str, Any] = {
    "flights": {
        "key_type": "string",
        "fields": {"carrier": "string", "origin": "string", "gates": "array", "plan": "object", "day": "int"},
        "refs": {
            "carrier": {"to": "airlines"},
            "origin": {"to": "airports"},
            "gates": {"to": "gates"},
            "next": {"to": "flights", "field": "plan.next"},
        },
    },
    "airlines": {"key_type": "string", "refs": {"hub": {"to": "airports"}}},
    "airports": {"key_type": "string", "shared_max_age_seconds": 10},
    "gates": {"key_type": "int"},
}
FLIGHT = {"_id": "f1", "carrier": "UA", "origin": "EWR", "gates": [1, 9, "x"], "plan": {"next": "f2", "seats": 3}}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mongo_uri: str, redis_url: str) -> AsyncIterator[World]:
    catalog = Catalog.model_validate({"database": "linked", "resources": RESOURCES})
    async with World.of(settings_of(mongo_uri, redis_url, "linked"), catalog) as world:
        await world.mongo.drop_database("linked")
        await world.write("flights", FLIGHT, {"_id": "f2", "carrier": "none", "plan": {"next": "f1"}})
        await world.write("airlines", {"_id": "UA", "name": "United", "hub": "EWR"})
        await world.write("airports", {"_id": "EWR", "name": "Newark"})
        await world.write("gates", {"_id": 1, "letter": "A"})
        await world.mark()
        for resource, key in (("flights", "f1"), ("flights", "f2"), ("airlines", "UA"), ("airports", "EWR")):
            await world.until_filled(resource, key)
        for resource in ("flights", "airlines"):
            await world.until_filled(resource, "none")  # an absence: whichever test comes first finds it cached
        for gate in (1, 9):
            await world.until_filled("gates", gate)
        yield world
        await world.mongo.drop_database("linked")


class RoundTrips:
    """How often Redis is waited for: commands that leave while others are under way cost nothing more."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.commands = 0
        self._under_way = 0
        hits = world.state.hits
        inner = hits.round_trip

        async def counted(commands: Sequence[Any]) -> list[Any]:
            self.count += not self._under_way
            self.commands += 1
            self._under_way += 1
            try:
                return await inner(commands)
            finally:
                self._under_way -= 1

        monkeypatch.setattr(hits, "round_trip", counted)


async def test_references_are_followed_level_by_level(world: World) -> None:
    path = "/v1/flights/f1?expand=carrier.hub,origin,gates,next.next"
    found = (await world.http.get(path)).raise_for_status().json()
    assert found["carrier"] == {"_id": "UA", "name": "United", "hub": {"_id": "EWR", "name": "Newark"}}
    assert found["origin"] == {"_id": "EWR", "name": "Newark"}
    assert found["gates"] == [{"_id": 1, "letter": "A"}, None, None]
    assert found["plan"]["seats"] == 3
    assert found["plan"]["next"]["plan"]["next"] == FLIGHT
    missing = (await world.http.get("/v1/flights/f2?expand=carrier")).json()
    assert missing == {"_id": "f2", "carrier": None, "plan": {"next": "f1"}}


async def test_fields_leave_out_all_else(world: World) -> None:
    path = "/v1/flights/f1?expand=carrier&fields=carrier.name,plan.seats"
    assert (
        await world.http.get(path)
    ).content == b'{"_id":"f1","carrier":{"_id":"UA","name":"United"},"plan":{"seats":3}}'
    several = await world.http.get("/v1/flights?keys=f2,none,f1&fields=origin")
    assert [item["value"] for item in several.json()["items"]] == [
        {"_id": "f2"},
        None,
        {"_id": "f1", "origin": "EWR"},
    ]
    absent = await world.http.get("/v1/flights/none?expand=carrier&fields=origin")
    assert (absent.status_code, absent.json()["type"]) == (404, "urn:neverstale:unknown-key")


async def test_25_flights_with_two_references_each_cost_one_more_round_trip(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"many{number}" for number in range(25)]
    await world.write("flights", *({"_id": key, "carrier": f"c{key[-1]}", "origin": key} for key in keys))
    await world.write("airlines", *({"_id": f"c{number}"} for number in range(10)))
    await world.write("airports", *({"_id": key} for key in keys))
    await world.mark()
    path = f"/v1/flights?keys={','.join(keys)}"
    for resource, some in (("flights", keys), ("airports", keys), ("airlines", [f"c{n}" for n in range(10)])):
        for key in some:
            await world.until_filled(resource, key)
    trips = RoundTrips(world, monkeypatch)
    assert "; hit" in (await world.http.get(path)).headers["cache-status"]
    alone, trips.count, commands, trips.commands = trips.count, 0, trips.commands, 0
    linked = await world.http.get(f"{path}&expand=carrier,origin")
    assert "; hit" in linked.headers["cache-status"]
    assert all(item["value"]["origin"] == {"_id": item["key"]} for item in linked.json()["items"])
    assert (alone, trips.count) == (1, 2)
    assert (commands, trips.commands) == (1, 3)  # one batch for each resource


async def test_the_answer_is_as_old_as_its_oldest_part_and_its_version_is_the_highest(world: World) -> None:
    await world.mark()
    plain = {
        resource: await world.http.get(f"/v1/{resource}/{key}")
        for resource, key in (("flights", "f1"), ("airlines", "UA"), ("airports", "EWR"))
    }
    linked = await world.http.get("/v1/flights/f1?expand=carrier,origin")
    assert linked.headers["neverstale-version"] == max(one.headers["neverstale-version"] for one in plain.values())
    assert linked.headers["neverstale-bound"] != "unknown"
    again = await world.http.get("/v1/flights/f1?expand=carrier,origin")
    assert again.headers["etag"] == linked.headers["etag"] != plain["flights"].headers["etag"]
    condition = {"if-none-match": linked.headers["etag"]}
    assert (await world.http.get("/v1/flights/f1?expand=carrier,origin", headers=condition)).status_code == 304
    version = await world.write("airlines", {"_id": "UA", "name": "changed", "hub": "EWR"})
    await world.apply("airlines", ["UA"], version)
    changed = await world.http.get("/v1/flights/f1?expand=carrier,origin", headers=condition)
    assert (changed.status_code, changed.json()["carrier"]["name"]) == (200, "changed")
    assert changed.headers["neverstale-version"] >= to_hex(version)
    await world.apply(
        "airlines", ["UA"], await world.write("airlines", {"_id": "UA", "name": "United", "hub": "EWR"})
    )


async def refilled(world: World, resource: str, key: str) -> None:
    """Ask for a stale document until the cache holds it again."""

    async def hit() -> bool:
        return "; hit" in (await world.http.get(f"/v1/{resource}/{key}")).headers["cache-status"]

    await world.mark()
    await eventually(hit, f"{key} is in the cache")


async def test_demands_hold_for_every_part(world: World) -> None:
    path = "/v1/flights/f1?expand=carrier"
    await refilled(world, "airlines", "UA")
    version = await world.write("airlines", {"_id": "UA", "name": "newest", "hub": "EWR"})  # nobody has applied it
    assert (await world.http.get(path)).json()["carrier"]["name"] != "newest"
    for headers in ({"neverstale-min-version": to_hex(version)}, {"cache-control": "no-cache"}):
        found = await world.http.get(path, headers=headers)
        assert found.json()["carrier"]["name"] == "newest"
        assert found.headers["cache-status"].endswith("detail=mongodb")
    await world.apply("airlines", ["UA"], version)
    only = await world.http.get(path, headers={"cache-control": "only-if-cached"})
    assert (only.status_code, only.json()["type"]) == (504, "urn:neverstale:not-cached")
    await refilled(world, "airlines", "UA")
    assert (await world.http.get(path, headers={"cache-control": "only-if-cached"})).status_code == 200


async def test_a_part_that_grows_too_old_while_another_is_waited_for_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flight is young enough when it is taken, and too old when the airline has come from MongoDB at last."""
    await refilled(world, "airlines", "UA")
    source, waited = world.documents["airlines"], 0
    inner = source.read

    async def too_old() -> bool:
        return (world.freshness.bound(world.freshness.watermark or 0) or 0) > 2

    async def slow(asks: Sequence[Any]) -> Any:
        nonlocal waited
        waited += 1
        if waited == 1:
            await eventually(too_old, "what is known of the cache is too old")
            await world.mark()
        return await inner(asks)

    monkeypatch.setattr(source, "read", slow)
    found = await world.http.get("/v1/flights/f1?expand=carrier", headers={"cache-control": "max-age=2"})
    assert waited == 2
    assert float(found.headers["neverstale-bound"]) <= 2.0


async def test_a_hot_path_leaves_views_to_the_routes(world: World) -> None:
    found = await world.http.head("/v1/flights/f1?fields=origin")
    assert (found.status_code, found.content) == (200, b"")
    assert found.headers["content-length"] == str(len(orjson.dumps({"_id": "f1", "origin": "EWR"})))


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("expand=gate", "expand"),
        ("fields=gate", "fields"),
        ("expand=carrier&x=1", "x"),
        ("fields=carrier.name", "fields"),
    ],
)
async def test_what_is_asked_wrongly_is_a_400_that_names_it(world: World, query: str, parameter: str) -> None:
    for path in (f"/v1/flights/f1?{query}", f"/v1/flights?keys=f1&{query}"):
        response = await world.http.get(path)
        assert (response.status_code, response.json()["parameter"]) == (400, parameter)


# --- keys in a body, through a socket


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(world: World) -> AsyncIterator[Served]:
    async with Served.of(world) as served:
        await served.mark()
        yield served


def asking(method: str, path: str, body: Any, *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + data


@pytest.mark.parametrize("method", ["POST", "QUERY"])
async def test_keys_in_a_body_are_answered_as_keys_in_a_query_are(served: Served, method: str) -> None:
    async with served.connection() as client:
        alike = await client.get("/v1/flights?keys=f1,none,f2&expand=carrier,gates&fields=carrier,gates")
        body = {"keys": ["f1", "none", "f2"], "expand": ["carrier", "gates"], "fields": ["carrier", "gates"]}
        client.send(asking(method, "/v1/flights", body))
        found = await client.receive()
        assert unmoved(found) == unmoved(alike)
        tag = f"If-None-Match: {header(found, 'etag')}"
        client.send(asking(method, "/v1/flights", body, tag))
        assert status(await client.receive()) == (304 if method == "QUERY" else 412)
        client.send(asking(method, "/v1/gates", {"keys": [1, {"$numberLong": "9"}]}))
        assert orjson.loads(body_of(await client.receive())) == {
            "items": [{"key": 1, "value": {"_id": 1, "letter": "A"}}, {"key": 9, "value": None}]
        }


async def test_several_resources_are_asked_for_at_once(served: Served) -> None:
    body = {"airlines": {"keys": ["UA"], "fields": ["name"]}, "flights": {"keys": ["f2", "f1"], "expand": ["next"]}}
    async with served.connection() as client:
        client.send(asking("POST", "/v1/-/documents", body))
        found = await client.receive()
        versions = [
            header(await client.get(path), "neverstale-version") for path in ("/v1/airlines/UA", "/v1/flights/f1")
        ]
    content = orjson.loads(body_of(found))
    assert list(content) == ["airlines", "flights"]
    assert list(content["airlines"]["items"][0]["value"]) == ["_id", "name"]
    assert content["flights"]["items"][0]["value"]["plan"]["next"]["_id"] == "f1"
    assert header(found, "neverstale-version") == max(version for version in versions if version)


async def test_a_thousand_keys_fit_and_their_connection_goes_on(served: Served) -> None:
    keys = [f"{number:040}" for number in range(998)]
    async with served.connection() as client:
        client.send(asking("QUERY", "/v1/flights", {"keys": [*keys, "f1", "f2"]}))
        found = orjson.loads(body_of(await client.receive()))
        assert [item["value"] is None for item in found["items"]] == [True] * 998 + [False] * 2
        pieces = [b"7\r\n" + b'{"keys"' + b"\r\n", b'8;x=1\r\n:["f1"]}\r\n', b"0\r\nTrailer: 1\r\n\r\n"]
        head = b"POST /v1/flights HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
        client.send(head + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        for piece in pieces:
            client.send(piece)
            await client.writer.drain()
        assert orjson.loads(body_of(await client.receive()))["items"][0]["key"] == "f1"
        assert status(await client.get("/v1/flights/f1")) == 200


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (asking("POST", "/v1/flights", b"{"), 400),
        (asking("POST", "/v1/flights?expand=carrier", {"keys": ["f1"]}), 400),
        (asking("POST", "/v1/flights", {"keys": ["f1"]}).replace(b"application/json", b"text/plain"), 415),
        (b"POST /v1/flights HTTP/1.1\r\nHost: t\r\n\r\n", 415),
        (asking("QUERY", "/v1/flights", b" " * 1_100_000), 413),
        (asking("POST", "/v1/flights/f1", {"keys": ["f1"]}), 405),
        (asking("PUT", "/v1/flights", {"keys": ["f1"]}), 405),
    ],
)
async def test_a_wrong_request_with_a_body_is_told_so(served: Served, request_bytes: bytes, code: int) -> None:
    async with served.connection() as client:
        client.send(request_bytes)
        assert status(await client.receive()) == code


async def test_shared_caches_are_told_alike_whichever_way_an_answer_took(served: Served) -> None:
    lines = b"cdn-cache-control: max-age=10\r\ncache-tag: airports\r\nsurrogate-key: airports\r\n"
    path = "/v1/airports/EWR"
    in_l1 = await served.kept(path, "EWR", "airports")
    assert lines in in_l1
    tag = f"If-None-Match: {header(in_l1, 'etag')}"
    async with served.routes() as port, served.connection(port) as slow, served.connection() as fast:
        for request in ((path,), (path, tag), (path, "Accept-Encoding: gzip"), ("/v1/airports/none",)):
            told = [unmoved(await client.get(*request)).split(b"\r\n")[1:] for client in (fast, slow)]
            first, second = ([line for line in each if not line.startswith(b"cache-status")] for each in told)
            assert first == second
            assert lines in b"\r\n".join(first)
        assert b"cdn-cache-control" not in await slow.get("/v1/flights/f1?expand=origin")
        assert b"cdn-cache-control" not in await fast.get("/v1/gates/1")
