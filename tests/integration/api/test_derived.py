"""Lists, counters and rankings over HTTP, with the whole pipeline on real servers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import pytest_asyncio
from bson.raw_bson import RawBSONDocument
from pymongo import AsyncMongoClient

from neverstale.api.derived.counters import CounterSource
from neverstale.api.derived.pages import PageSource
from neverstale.api.derived.rankings import RankingSource
from neverstale.errors import Outage, Server, TooSlow
from neverstale.mongodb.loader import Loader
from tests.integration.api.test_values_in_mongodb import survives
from tests.properties.raw_bson import ODD, Value, boolean, document, integer, string
from tests.support.events import listening
from tests.worlds import hits
from tests.worlds.deriving import RESOURCE, Writer, kill
from tests.worlds.serving import Served, all_pages, cached, flight, heard, in_l1, keys, listed, serving, without_place

BEYOND_BOUNDS = {name for name in ODD if "levels" in name} | {"a string of 600 bytes", "a large document"}
MORE_ELEMENTS = 5
"""The arrays among the others have so many elements more than there are of them."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(mongo_uri: str, kafka_servers: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(mongo_uri, kafka_servers, redis_url) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hot(served: Served) -> AsyncIterator[hits.Served]:
    """The same behind uvicorn, where pages are answered before ASGI."""
    async with hits.Served.of(served.world) as hot:
        yield hot


async def test_pages_follow_each_other_though_documents_come_and_go_between_them(served: Served) -> None:
    await served.write(*(flight(f"p{number}", origin="PAG", gate=f"g{number}") for number in range(1, 8)))
    await served.applied(await served.write(flight("p-elsewhere", origin="ELSE")))
    first = await served.until_hit("lists/departures", origin="PAG", day=1)
    assert keys(first) == ["p1", "p2", "p3"]

    await served.write(flight("p0", origin="PAG", gate="g0"), flight("p3b", origin="PAG", gate="g3b"))
    await served.documents.delete_one({"_id": "p3"})
    await served.documents.update_one({"_id": "p4"}, {"$set": {"cancelled": True}})
    await served.applied(await served.write(flight("p9", origin="PAG", gate="g9")))

    second = await served.get("lists/departures", origin="PAG", day=1, cursor=first.json()["next"])
    third = await served.get("lists/departures", origin="PAG", day=1, cursor=second.json()["next"])
    assert keys(second) == ["p3b", "p5", "p6"]
    assert keys(third) == ["p7", "p9"]
    assert third.json()["next"] is None
    assert third.headers["cache-status"] == "neverstale; fwd=bypass; detail=mongodb"


async def test_a_page_shows_documents_as_their_own_route_does(served: Served) -> None:
    await served.applied(await served.write(flight("look", origin="LOOK", extra=1, delay=2**40)))
    page = await served.get("lists/departures", origin="LOOK", day=1)
    one = await served.world.http.get(f"/v1/{RESOURCE}/look")
    assert page.content == b'{"items":[%b],"next":null,"prev":null}' % one.content


async def test_no_page_shows_what_was_changed_before_it_was_asked_for(served: Served) -> None:
    for turn in range(8):
        version = await served.write(flight("turn", origin="TURN", day=turn % 2, gate=f"g{turn}"))
        await served.applied(version)
        here = await served.get("lists/departures", origin="TURN", day=turn % 2)
        gone = await served.get("lists/departures", origin="TURN", day=1 - turn % 2)
        assert [item["gate"] for item in here.json()["items"]] == [f"g{turn}"]
        assert gone.json()["items"] == []
        await served.until_hit("lists/departures", origin="TURN", day=turn % 2)


async def test_a_change_of_one_group_leaves_pages_of_others_cached(served: Served) -> None:
    await served.applied(await served.write(flight("x", origin="X"), flight("y", origin="Y")))
    before = await served.until_hit("lists/departures", origin="X", day=1)
    await served.applied(await served.write(flight("y", origin="Y", gate="changed")))
    after = await served.get("lists/departures", origin="X", day=1)
    assert "; hit" in after.headers["cache-status"]
    assert after.headers["neverstale-version"] == before.headers["neverstale-version"]
    changed = await served.get("lists/departures", origin="Y", day=1)
    assert "; hit" not in changed.headers["cache-status"]


async def test_a_field_that_no_page_shows_leaves_pages_cached(served: Served) -> None:
    await served.applied(await served.write(flight("quiet", origin="QUIET")))
    await served.until_hit("lists/departures", origin="QUIET", day=1)
    await served.documents.update_one({"_id": "quiet"}, {"$set": {"unused": 1}})
    await served.applied(await served.write(flight("other", origin="OTHER")))
    page = await served.get("lists/departures", origin="QUIET", day=1)
    assert "; hit" in page.headers["cache-status"]


async def test_who_comes_to_hold_a_lists_constant_comes_into_its_page(served: Served) -> None:
    await served.applied(await served.write(flight("back", origin="BACK", cancelled=True)))
    assert (await served.until_hit("lists/departures", origin="BACK", day=1)).json()["items"] == []
    await served.documents.update_one({"_id": "back"}, {"$set": {"cancelled": False}})
    await served.applied(await served.write(flight("unlike", origin="UNLIKE")))
    page = await served.get("lists/departures", origin="BACK", day=1)
    assert [item["_id"] for item in page.json()["items"]] == ["back"]


async def test_null_is_a_group_of_its_own(served: Served) -> None:
    nothing = flight("nothing", day=77)
    del nothing["origin"]
    await served.applied(await served.write(nothing, flight("null", origin=None, day=77), flight("n", origin="null")))
    page = await served.world.http.get(f"/v1/{RESOURCE}/-/lists/departures?origin:null&day=77")
    assert sorted(keys(page)) == ["nothing", "null"]


async def test_the_type_of_a_value_can_be_said(served: Served) -> None:
    await served.applied(await served.write(flight("typed", status=5, origin="TYPED")))
    text = await served.get("counters/by_status", origin="TYPED", status="5")
    number = await served.world.http.get(f"/v1/{RESOURCE}/-/counters/by_status?origin=TYPED&status:int=5")
    assert (text.json()["count"], number.json()["count"]) == (0, 1)


async def _put(served: Served, values: Mapping[str, Value]) -> None:
    """A flight for each value, which is its status, its gate and its delay."""
    raws = [
        document(
            string(f"odd-{name}").named("_id"),
            string("ODD").named("origin"),
            integer(99).named("day"),
            boolean(False).named("cancelled"),
            *(value.named(field) for field in ("status", "gate", "delay")),
        )
        for name, value in values.items()
    ]
    async with AsyncMongoClient[Any](served.deriving.settings.mongodb.uri.get_secret_value()) as client:
        await client[served.deriving.catalog.database][RESOURCE].insert_many([RawBSONDocument(raw) for raw in raws])


async def test_values_of_every_type_are_counted_listed_and_ranked_like_any_other(served: Served) -> None:
    usual = {name: value for name, value in ODD.items() if survives(value) and name not in BEYOND_BOUNDS}
    before = (await served.world.http.get(f"/v1/{RESOURCE}/first")).content
    await _put(served, usual)
    await served.applied(await served.write(flight("beside")))

    # Counted: Redis and MongoDB say the same, and each group can be asked for.
    groups = await served.until_hit("counters/by_status", origin="ODD")
    asked = await served.get("counters/by_status", {"cache-control": "no-cache"}, origin="ODD")
    assert asked.json() == groups.json()
    assert groups.json()["total"]["count"] == len(usual) + MORE_ELEMENTS
    for one in groups.json()["groups"]:
        question = one.get("ask") or _as_json_says("status", one["by"]["status"])
        for headers in ({}, {"cache-control": "no-cache"}):
            path = f"/v1/{RESOURCE}/-/counters/by_status?origin=ODD&{question}"
            counted = await served.world.http.get(path, headers=headers)
            assert (counted.status_code, counted.json()["count"]) == (200, one["count"]), question

    # Listed: every document once, in MongoDB's order.
    found: list[str] = []
    more: dict[str, Any] = {}
    while True:
        page = await served.get("lists/departures", origin="ODD", day=99, **more)
        assert page.status_code == 200, page.text
        found += keys(page)
        if page.json()["next"] is None:
            break
        more = {"cursor": page.json()["next"]}
    order = served.documents.find({"origin": "ODD"}, {"_id": 1}).sort([("gate", 1), ("_id", 1)])
    assert found == [one["_id"] for one in await order.to_list()]

    # Ranked and summed, with figures that JSON can say.
    for path in ("rankings/late?day=99&limit=5", "rankings/early", "counters/delays?day=99"):
        for headers in ({}, {"cache-control": "no-cache"}):
            answer = await served.world.http.get(f"/v1/{RESOURCE}/-/{path}", headers=headers)
            assert answer.status_code == 200
            orjson.loads(answer.content)
    assert (await served.world.http.get(f"/v1/{RESOURCE}/first")).content == before

    # A value beyond the bounds makes the counter unknown to Redis, not wrong.
    await _put(served, {name: ODD[name] for name in BEYOND_BOUNDS})
    await served.applied(await served.write(flight("beside")))
    beyond = await served.get("counters/by_status", {"cache-control": "no-cache"}, origin="ODD")
    await served.documents.delete_many({"origin": "ODD"})
    assert beyond.json()["total"]["count"] == len(ODD) - _left_out() + MORE_ELEMENTS
    assert "detail=mongodb" in beyond.headers["cache-status"]


def _left_out() -> int:
    return sum(not survives(value) for value in ODD.values())


def _as_json_says(path: str, value: Any) -> str:
    """What a reader of JSON asks who is told nothing more."""
    match value:
        case None:
            return f"{path}:null"
        case bool():
            return f"{path}:bool={str(value).lower()}"
        case int():
            return f"{path}:int={value}"
        case float():
            return f"{path}:double={quote(repr(value))}"
    return f"{path}={quote(value, safe='')}"


async def test_a_counter_answers_one_group_all_groups_and_totals(served: Served) -> None:
    some = [flight(f"c{number}", origin="CNT", status="sd"[number % 2]) for number in range(5)]
    await served.applied(await served.write(*some))
    one = await served.until_hit("counters/by_status", origin="CNT", status="s")
    assert one.json() == {"count": 3, "sums": {}}
    groups = await served.get("counters/by_status", origin="CNT")
    assert groups.json() == {
        "groups": [{"by": {"status": "s"}, "count": 3, "sums": {}}, {"by": {"status": "d"}, "count": 2, "sums": {}}],
        "more": False,
        "total": {"count": 5, "sums": {}},
    }
    assert (await served.get("counters/by_status", origin="CNT", group="")).json() == {"count": 5, "sums": {}}
    everything = (await served.get("counters/all")).json()["count"]
    assert everything == await served.documents.count_documents({})
    by_origin = (await served.get("counters/by_status", group="origin")).json()
    assert {"by": {"origin": "CNT"}, "count": 5, "sums": {}} in by_origin["groups"]
    assert by_origin["total"]["count"] == everything


async def test_sums_have_their_scale_and_averages_their_numbers(served: Served) -> None:
    await served.applied(
        await served.write(
            flight("s1", day=50, delay=10, cost=0.1), flight("s2", day=50, delay=5, cost=0.2), flight("s3", day=50)
        )
    )
    answer = await served.until_hit("counters/delays", day=50)
    assert answer.text == ('{"count":3,"sums":{"delay":15,"cost":0.30},"averages":{"delay":5.0,"cost":0.15}}')
    from_mongodb = await served.get("counters/delays", {"cache-control": "no-cache"}, day=50)
    assert from_mongodb.text == answer.text
    assert from_mongodb.headers["cache-status"] == "neverstale; fwd=request; detail=mongodb"


async def test_what_redis_and_mongodb_say_is_the_same(served: Served) -> None:
    # Redis does not know a sum over all groups while one has a number that does not fit its scale.
    await served.documents.delete_many({})
    some = [
        flight(f"e{i}", day=[60, 61][i % 2], status="sda"[i % 3], delay=[3, -1, None, 7][i % 4]) for i in range(20)
    ]
    await served.applied(await served.write(*some))
    paths: list[tuple[str, dict[str, Any]]] = [
        ("counters/by_status", {}),
        ("counters/by_status", {"group": "status"}),
        ("counters/by_status", {"group": "status", "status": "s"}),
        ("counters/by_status", {"group": "status,origin", "status": "s"}),
        ("counters/by_status", {"group": "status", "status": "nowhere"}),
        ("counters/delays", {"day": 60}),
        ("counters/delays", {}),
        ("rankings/late", {"day": 60}),
        ("rankings/late", {"day": 61, "limit": 2}),
        ("rankings/early", {"limit": 10}),
        ("rankings/late/e3", {"day": 61, "around": 2}),
        ("rankings/late/e0", {"day": 60}),
        ("rankings/early/e0", {"around": 3}),
    ]
    for path, query in paths:
        kept = await served.until_hit(path, **query)
        asked = await served.get(path, {"cache-control": "no-cache"}, **query)
        assert kept.text == asked.text, (path, query)
        assert kept.headers["etag"] == asked.headers["etag"]


async def test_a_ranking_says_who_leads_and_who_is_next_to_one(served: Served) -> None:
    some = [flight(f"r{number}", day=70, delay=[9, 3, 9, 1, 5][number]) for number in range(5)]
    await served.applied(await served.write(*some))
    top = await served.until_hit("rankings/late", day=70, limit=3)
    assert top.json() == {
        "items": [
            {"key": "r0", "score": 9, "rank": 1},
            {"key": "r2", "score": 9, "rank": 2},
            {"key": "r4", "score": 5, "rank": 3},
        ]
    }
    one = await served.get("rankings/late/r4", day=70, around=1)
    assert one.json() == {
        "key": "r4",
        "score": 5,
        "rank": 3,
        "around": [
            {"key": "r2", "score": 9, "rank": 2},
            {"key": "r4", "score": 5, "rank": 3},
            {"key": "r1", "score": 3, "rank": 4},
        ],
    }
    absent = await served.get("rankings/late/nobody", day=70)
    assert absent.status_code == 404
    assert absent.json()["type"] == "urn:neverstale:unknown-key"
    assert "neverstale-bound" in absent.headers


async def test_an_answer_can_be_demanded_that_holds_ones_own_write(served: Served) -> None:
    for number in range(5):
        version = await served.write(flight(f"own{number}", origin="OWN", day=80, delay=number))
        demand = {"neverstale-min-version": version}
        page = await served.get("lists/departures", demand, origin="OWN", day=80)
        count = await served.get("counters/by_status", demand, origin="OWN", status="s")
        top = await served.get("rankings/late", demand, day=80, limit=1)
        assert len(keys(page)) == min(number + 1, 3)
        assert count.json()["count"] == number + 1
        assert top.json()["items"][0]["key"] == f"own{number}"


@pytest.mark.parametrize(
    ("path", "query", "parameter"),
    [
        ("lists/departures", "origin=JFK", "day"),
        ("lists/departures", "origin=JFK&day=x", "day"),
        ("lists/departures", "origin=JFK&day=1&limit=4", "limit"),
        ("lists/departures", "origin=JFK&day=1&day=2", "day"),
        ("lists/departures", "origin=JFK&day:colour=1", "day:colour"),
        ("lists/departures", "origin=JFK&day=1&cursor=abc", "cursor"),
        ("lists/departures", "origin=JFK&day=1&cursor=", "cursor"),
        ("counters/by_status", "group=colour", "group"),
        ("counters/by_status", "group=origin,origin", "group"),
        ("counters/delays", "limit=0", "limit"),
        ("rankings/late", "day=1&limit=6", "limit"),
        ("rankings/late/k", "day=1&around=1000", "around"),
        ("rankings/late/k", "", "day"),
    ],
)
async def test_a_wrong_parameter_is_named(served: Served, path: str, query: str, parameter: str) -> None:
    response = await served.world.http.get(f"/v1/{RESOURCE}/-/{path}?{query}")
    assert response.status_code == 400
    assert response.json()["parameter"] == parameter


@pytest.mark.parametrize("path", ["lists/everything", "counters/all", "rankings/early"])
async def test_a_version_of_the_future_is_the_callers_mistake(served: Served, path: str) -> None:
    response = await served.get(path, {"neverstale-min-version": "f" * 15 + "0"})
    assert (response.status_code, response.json()["parameter"]) == (400, "Neverstale-Min-Version")


@pytest.mark.parametrize("path", ["lists/everything", "counters/all", "rankings/early", "rankings/early/k"])
async def test_what_is_derived_can_only_be_read(served: Served, path: str) -> None:
    response = await served.world.http.post(f"/v1/{RESOURCE}/-/{path}")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


async def test_a_cursor_of_another_group_is_refused(served: Served) -> None:
    some = [flight(f"g{number}", origin="CUR", gate=f"g{number}") for number in range(4)]
    await served.applied(await served.write(*some))
    cursor = (await served.get("lists/departures", origin="CUR", day=1)).json()["next"]
    response = await served.get("lists/departures", origin="CUR", day=2, cursor=cursor)
    assert response.status_code == 400
    assert response.json()["parameter"] == "cursor"


@pytest.mark.parametrize("path", ["lists/nothing", "counters/nothing", "rankings/nothing/k", "nothing", "lists"])
async def test_unknown_names_are_not_found(served: Served, path: str) -> None:
    response = await served.get(path)
    assert response.status_code == 404


@pytest.mark.parametrize("path", ["lists/everything", "counters/all", "rankings/early"])
async def test_an_etag_spares_the_body_and_head_has_none(served: Served, path: str) -> None:
    answer = await served.until_hit(path)
    again = await served.get(path, {"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = await served.world.http.head(f"/v1/{RESOURCE}/-/{path}")
    assert (head.status_code, head.headers["etag"]) == (200, answer.headers["etag"])
    for name in ("neverstale-bound", "neverstale-version", "age"):
        assert name in head.headers


def away(server: Server) -> Any:
    async def fail(*_: Any, **__: Any) -> Any:
        raise Outage(server, "the test says so")

    return fail


async def test_while_mongodb_is_away_what_is_known_is_served(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await served.applied(await served.write(flight("away", origin="AWAY"), flight("stale", origin="STALE")))
    await served.until_hit("lists/departures", origin="AWAY", day=1)
    await served.until_hit("lists/departures", origin="STALE", day=1)
    await served.applied(await served.write(flight("stale", origin="STALE", gate="changed")))
    with monkeypatch.context() as patch:
        patch.setattr(Loader, "query", away("mongodb"))
        known = await served.get("lists/departures", origin="AWAY", day=1)
        count = await served.get("counters/by_status", origin="AWAY", status="s")
        stale = await served.get("lists/departures", origin="STALE", day=1)
        allowed = await served.get("lists/departures", {"cache-control": "stale-if-error=600"}, origin="STALE", day=1)
    assert [known.headers["cache-status"], count.headers["cache-status"]] == ["neverstale; hit; detail=l2"] * 2
    assert stale.status_code == 503
    assert stale.headers["retry-after"]
    assert allowed.status_code == 200
    assert allowed.headers["cache-status"] == "neverstale; fwd=stale; fwd-status=503; detail=l2"
    assert allowed.json()["items"][0]["gate"] == "a"
    await served.until_hit("lists/departures", origin="STALE", day=1)


async def test_while_redis_is_away_mongodb_answers(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await served.applied(await served.write(flight("gone", origin="GONE", day=91)))
    with monkeypatch.context() as patch:
        for owner, name in ((PageSource, "read"), (CounterSource, "look"), (RankingSource, "look")):
            patch.setattr(owner, name, away("redis"))
        page = await served.get("lists/departures", origin="GONE", day=91)
        count = await served.get("counters/by_status", origin="GONE", status="s")
        top = await served.get("rankings/late", day=91)
    assert keys(page) == ["gone"]
    assert count.json()["count"] == 1
    assert top.json()["items"] == [{"key": "gone", "score": 0, "rank": 1}]
    assert {answer.headers["cache-status"] for answer in (page, count, top)} == {
        "neverstale; fwd=bypass; detail=mongodb"
    }


async def test_mongodb_can_be_forbidden_and_demanded(served: Served) -> None:
    some = [flight(f"only{number}", origin="ONLY", gate=f"g{number}") for number in range(9)]
    await served.applied(await served.write(*some))
    only = {"cache-control": "only-if-cached"}
    assert (await served.get("lists/departures", only, origin="ONLY", day=1)).status_code == 504
    first = await served.until_hit("lists/departures", origin="ONLY", day=1)
    assert (await served.get("lists/departures", only, origin="ONLY", day=1)).status_code == 200
    second = await served.until_hit("lists/departures", origin="ONLY", day=1, cursor=first.json()["next"])
    deep = await served.get("lists/departures", only, origin="ONLY", day=1, cursor=second.json()["next"])
    assert deep.status_code == 504
    assert (await served.get("counters/all", only)).status_code == 200
    for path, query in (("lists/departures", {"origin": "ONLY", "day": 1}), ("counters/all", {})):
        answer = await served.get(path, {"cache-control": "max-age=0"}, **query)
        assert answer.headers["cache-status"] == "neverstale; fwd=request; detail=mongodb"


async def test_readers_of_one_page_share_one_read(served: Served) -> None:
    await served.applied(await served.write(flight("crowd", origin="CROWD")))
    answers = await asyncio.gather(*(served.get("lists/departures", origin="CROWD", day=1) for _ in range(20)))
    ways = Counter(answer.headers["cache-status"] for answer in answers)
    assert ways["neverstale; fwd=miss; detail=mongodb"] == 1
    assert {tuple(keys(answer)) for answer in answers} == {("crowd",)}


async def test_what_mongodb_counted_serves_others_for_a_moment(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.write(flight("brief", origin="BRIEF"))
    with monkeypatch.context() as patch:
        patch.setattr(CounterSource, "look", away("redis"))
        first = await served.get("counters/by_status", origin="BRIEF", status="s")
        second = await served.get("counters/by_status", origin="BRIEF", status="s")
    assert first.headers["cache-status"] == "neverstale; fwd=bypass; detail=mongodb"
    assert second.headers["cache-status"] == "neverstale; fwd=bypass; collapsed; detail=mongodb"
    assert second.headers["neverstale-version"] == first.headers["neverstale-version"]


async def test_a_query_that_takes_too_long_is_refused_and_no_outage(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: Any, **__: Any) -> Any:
        raise TooSlow("mongodb")

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "query", slow)
        for _ in range(5):
            answer = await served.get("counters/by_status", {"cache-control": "no-cache"}, origin="JFK")
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:neverstale:too-slow")
    answer = await served.get("counters/by_status", {"cache-control": "no-cache"}, origin="JFK")
    assert answer.status_code == 200


async def test_without_a_generation_mongodb_answers(served: Served) -> None:
    await served.applied(await served.write(flight("lost", origin="LOST", day=90, delay=4)))
    await served.deriving.store.forget()
    page = await served.get("lists/departures", origin="LOST", day=90)
    count = await served.get("counters/by_status", origin="LOST", status="s")
    top = await served.get("rankings/late", day=90)
    assert keys(page) == ["lost"]
    assert count.json()["count"] == 1
    assert top.json() == {"items": [{"key": "lost", "score": 4, "rank": 1}]}
    for answer in (page, count, top):
        assert answer.headers["cache-status"].startswith("neverstale; fwd=")
        assert answer.headers["cache-status"].endswith("detail=mongodb")
    await served.deriving.until_complete()
    await served.until_hit("counters/by_status", origin="LOST", status="s")


async def test_a_page_answered_before_asgi_is_what_the_routes_answer(served: Served, hot: hits.Served) -> None:
    some = [flight(f"hot{number}", origin="HOT", gate=f"g{number}" + "x" * 600) for number in range(5)]
    await served.applied(await served.write(*some))
    first = f"/v1/{RESOURCE}/-/lists/departures?origin=HOT&day=1"
    cursor = orjson.loads(hits.body(await cached(hot, first)))["next"]
    second = f"{first}&cursor={cursor}"
    etag = hits.header(await cached(hot, second), "etag")
    for path in (first, second):
        for headers in ((), ("Accept-Encoding: gzip",), (f"If-None-Match: {etag}",)):
            for method in ("GET", "HEAD"):
                async with hot.connection() as client:
                    answered = await client.get(path, *headers, method=method)
                    ordinary = await client.get(path, "Cache-Control: max-stale", *headers, method=method)
                assert b"; hit; detail=l" in answered
                assert without_place(answered) == without_place(ordinary)


async def test_no_page_answered_from_memory_misses_a_change_that_was_announced(
    served: Served, hot: hits.Served
) -> None:
    paths = [f"/v1/{RESOURCE}/-/lists/departures?origin=RAW&day={day}" for day in (0, 1)]
    for turn in range(10):
        await heard(hot, await served.write(flight("raw", origin="RAW", day=turn % 2, gate=f"g{turn}")))
        for day in (0, 1):
            async with hot.connection() as client:
                answered = await client.get(paths[day])
            gates = [item["gate"] for item in orjson.loads(hits.body(answered))["items"]]
            assert gates == ([f"g{turn}"] if day == turn % 2 else [])
            await in_l1(hot, paths[day])


async def test_a_change_of_one_group_leaves_pages_of_others_in_memory(served: Served, hot: hits.Served) -> None:
    await served.applied(await served.write(flight("m1", origin="M1"), flight("m2", origin="M2")))
    paths = [f"/v1/{RESOURCE}/-/lists/departures?origin={origin}&day=1" for origin in ("M1", "M2")]
    before = await in_l1(hot, paths[0])
    await in_l1(hot, paths[1])
    await heard(hot, await served.write(flight("m2", origin="M2", gate="changed")))
    async with hot.connection() as client:
        after = await client.get(paths[0])
        changed = await client.get(paths[1])
    assert hits.unmoved(after) == hits.unmoved(before)
    assert b"detail=l1" not in changed


async def test_a_page_that_redis_does_not_take_is_answered_from_memory_until_it_changes(
    served: Served, hot: hits.Served
) -> None:
    text = "x" * 700_000
    large = [flight(key, origin="LARGE", gate=text) for key in ("large1", "large2")]
    await served.applied(await served.write(*large))
    path = f"/v1/{RESOURCE}/-/lists/departures?origin=LARGE&day=1"
    assert len(hits.body(await in_l1(hot, path))) > 1 << 20
    await heard(hot, await served.write(flight("large1", origin="LARGE", gate="changed")))
    async with hot.connection() as client:
        answered = await client.get(path)
    gates = {item["gate"] for item in orjson.loads(hits.body(answered))["items"]}
    assert gates == {"changed", text}


async def test_pages_in_memory_go_with_their_generation(served: Served, hot: hits.Served) -> None:
    path = f"/v1/{RESOURCE}/-/lists/departures?origin=VOID&day=1"
    await served.applied(await served.write(flight("void", origin="VOID")))
    await in_l1(hot, path)
    await served.deriving.store.forget()
    await heard(hot, await served.write(flight("void", origin="VOID", gate="changed")))
    async with hot.connection() as client:
        answered = await client.get(path)
    assert [item["gate"] for item in orjson.loads(hits.body(answered))["items"]] == ["changed"]
    await served.deriving.until_complete()


@pytest.mark.parametrize("seed", [21])
async def test_in_a_storm_no_page_misses_what_was_announced(served: Served, hot: hits.Served, seed: int) -> None:
    writer = Writer(served.deriving, seed, keys=25)
    groups = [(origin, day) for origin in ("JFK", "LGA", "EWR", None) for day in (0, 1, 2)]
    pages, ways = 0, Counter[str]()
    async with served.deriving.consumer() as second:
        for turn in range(16):
            for _ in range(turn % 5 + 1):
                await writer.write()
            await heard(hot, await served.write(flight("storm", origin="STORM", gate=f"g{turn}")))
            if turn == 8:
                await kill(second)
            for origin, day in groups:
                shown = await all_pages(hot, origin, day, ways)
                assert shown == await listed(served, origin, day), (seed, turn, origin, day)
                pages += 1
    assert ways["l1"] and ways["l2"]
    print(f"\nseed {seed}: {sum(writer.written.values())} writes, {pages} lists read to their end, {dict(ways)}")


@pytest.mark.parametrize(
    ("query", "expected"),
    [("origin=HOT", 400), ("origin=HOT&day=1&cursor=x", 400), ("origin=HOT&day=x", 400), ("origin:null&day=1", 200)],
)
async def test_a_line_that_names_no_page_is_answered_by_the_routes(
    hot: hits.Served, query: str, expected: int
) -> None:
    async with hot.connection() as client:
        for _ in range(2):
            answered = await client.get(f"/v1/{RESOURCE}/-/lists/departures?{query}")
            assert hits.status(answered) == expected


async def test_openapi_has_typed_routes(served: Served) -> None:
    described = (await served.world.http.get("/openapi.json")).json()
    path = described["paths"][f"/v1/{RESOURCE}/-/lists/departures"]["get"]
    by_name = {parameter["name"]: parameter for parameter in path["parameters"]}
    assert by_name["day"]["schema"]["type"] == "integer"
    assert by_name["origin"]["required"]
    assert f"/v1/{RESOURCE}/-/counters/by_status" in described["paths"]
    assert f"/v1/{RESOURCE}/-/rankings/late/{{key}}" in described["paths"]


# --- live


async def test_a_page_a_counter_and_a_ranking_are_streams_of_their_states(served: Served, hot: hits.Served) -> None:
    await served.applied(await served.write(flight("l1", origin="LIV", day=170, gate="b", delay=5)))
    await served.until_hit("counters/by_status", origin="LIV")
    base = f"/v1/{RESOURCE}/-/"
    async with (
        listening(hot.port, f"{base}lists/departures?origin=LIV&day=170") as page,
        listening(hot.port, f"{base}counters/by_status?origin=LIV&status=s") as one,
        listening(hot.port, f"{base}counters/by_status?origin=LIV") as groups,
        listening(hot.port, f"{base}rankings/late?day=170") as top,
        listening(hot.port, f"{base}rankings/late/l2?day=170") as rank,
    ):
        await page.until(lambda _: bool(page.states), "a page")
        assert [item["_id"] for item in page.last["items"]] == ["l1"]
        await rank.until(lambda _: bool(rank.states), "an absence")
        assert rank.states[-1].event == "absent"
        await served.write(flight("l2", origin="LIV", day=170, gate="a", delay=9))
        await page.until(lambda _: [item["_id"] for item in page.last["items"]] == ["l2", "l1"], "both on the page")
        await one.until(lambda _: one.last["count"] == 2, "both are counted")
        await groups.until(lambda _: groups.last["total"]["count"] == 2, "both are counted in groups")
        await top.until(lambda _: [item["key"] for item in top.last["items"]] == ["l2", "l1"], "both are ranked")
        await rank.until(lambda _: rank.states[-1].event == "state", "the second has a rank")
        assert rank.last["rank"] == 1
        await served.documents.update_one({"_id": "l2"}, {"$set": {"origin": "LIV-GONE", "day": 171}})
        await page.until(lambda _: [item["_id"] for item in page.last["items"]] == ["l1"], "one has left the page")
        await one.until(lambda _: one.last["count"] == 1, "one has left the counter")
        await rank.until(lambda _: rank.states[-1].event == "absent", "one has left the ranking")
        for stream in (page, one, groups, top, rank):
            ids = [state.id for state in stream.states]
            assert ids == sorted(ids)


async def test_a_figure_that_does_not_change_sends_nothing(served: Served, hot: hits.Served) -> None:
    await served.applied(await served.write(flight("q1", origin="QUI", status="here")))
    async with listening(hot.port, f"/v1/{RESOURCE}/-/counters/by_status?origin=QUI&status=here") as stream:
        await stream.until(lambda _: bool(stream.states), "a count")
        version = await served.write(flight("q1", origin="QUI", status="here", gate="z"), flight("q2", origin="QUX"))
        await heard(hot, version)
        assert len(stream.states) == 1
