"""Fewer items, a range, the page before, and how many there are: pages of lists, with the whole pipeline."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.worlds.deriving import RESOURCE
from tests.worlds.serving import Served, flight, keys, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIST = "lists/departures"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(mongo_uri: str, kafka_servers: str, redis_url: str) -> AsyncIterator[Served]:
    async with serving(mongo_uri, kafka_servers, redis_url) as served:
        yield served


async def board(served: Served, origin: str, gates: str) -> None:
    await served.applied(await served.write(*(flight(f"{origin}{gate}", origin=origin, gate=gate) for gate in gates)))


async def walk(served: Served, origin: str, link: str, first: dict[str, Any], **query: Any) -> list[list[str]]:
    """Pages one after the other, along `next` or `prev`."""
    pages, page = [keys_of(first)], first
    while page[link] is not None:
        page = (await served.get(LIST, origin=origin, day=1, cursor=page[link], **query)).json()
        pages.append(keys_of(page))
    return pages


def keys_of(page: dict[str, Any]) -> list[str]:
    return [item["_id"][-1] for item in page["items"]]


async def test_the_way_back_shows_what_the_way_there_has_shown(served: Served) -> None:
    await board(served, "BCK", "abcdefgh")
    first = (await served.get(LIST, origin="BCK", day=1)).json()
    assert first["prev"] is None
    there = await walk(served, "BCK", "next", first)
    assert there == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]
    second = (await served.get(LIST, origin="BCK", day=1, cursor=first["next"])).json()
    third = (await served.get(LIST, origin="BCK", day=1, cursor=second["next"])).json()
    assert await walk(served, "BCK", "prev", third) == [["g", "h"], ["d", "e", "f"], ["a", "b", "c"]]
    back = (await served.get(LIST, origin="BCK", day=1, cursor=third["prev"])).json()
    assert await walk(served, "BCK", "next", back) == [["d", "e", "f"], ["g", "h"]]


async def test_documents_that_come_and_go_hide_no_other_on_the_way_back(served: Served) -> None:
    await board(served, "GON", "abcdefg")
    first = (await served.get(LIST, origin="GON", day=1)).json()
    second = (await served.get(LIST, origin="GON", day=1, cursor=first["next"])).json()
    for gate in "cdef":
        await served.documents.delete_one({"_id": f"GON{gate}"})
    await board(served, "GON", "z")
    gone = (await served.get(LIST, origin="GON", day=1, cursor=first["next"])).json()
    assert keys_of(gone) == ["g", "z"]
    assert await walk(served, "GON", "prev", gone) == [["g", "z"], ["a", "b"]]
    before = (await served.get(LIST, origin="GON", day=1, cursor=second["prev"])).json()
    assert (keys_of(before), before["prev"]) == (["a", "b"], None)
    assert await walk(served, "GON", "next", before) == [["a", "b"], ["g", "z"]]
    for gate in "abgz":
        await served.documents.delete_one({"_id": f"GON{gate}"})
    await board(served, "GO2", "a")
    empty = (await served.get(LIST, origin="GON", day=1, cursor=first["next"])).json()
    assert (keys_of(empty), empty["next"], empty["prev"] is None) == ([], None, False)


async def test_first_pages_are_cached_whichever_way_they_are_reached_and_go_when_they_change(served: Served) -> None:
    await board(served, "HIT", "abcdefgh")
    first = await served.until_hit(LIST, origin="HIT", day=1)
    second = await served.until_hit(LIST, origin="HIT", day=1, cursor=first.json()["next"])
    before = await served.until_hit(LIST, origin="HIT", day=1, cursor=second.json()["prev"])
    assert keys(before) == keys(first)
    few = await served.until_hit(LIST, origin="HIT", day=1, limit=2)
    assert keys(few) == keys(first)[:2]
    await served.documents.delete_one({"_id": "HITa"})
    await board(served, "HIT", "h")
    assert keys(await served.get(LIST, origin="HIT", day=1, limit=2)) == ["HITb", "HITc"]
    assert keys(await served.get(LIST, origin="HIT", day=1, cursor=second.json()["prev"])) == ["HITb", "HITc"]


async def test_a_limit_makes_pages_shorter_and_their_cursors_go_on_behind_them(served: Served) -> None:
    await board(served, "LIM", "abcde")
    first = (await served.get(LIST, origin="LIM", day=1, limit=2)).json()
    assert await walk(served, "LIM", "next", first, limit=2) == [["a", "b"], ["c", "d"], ["e"]]
    whole = await served.get(LIST, origin="LIM", day=1, cursor=first["next"])
    assert keys_of(whole.json()) == ["c", "d", "e"]
    assert keys_of((await served.get(LIST, origin="LIM", day=1, limit=3)).json()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({"gate:gte": "c"}, [["c", "d", "e"], ["f"]]),
        ({"gate:gt": "c"}, [["d", "e", "f"]]),
        ({"gate:lte": "b"}, [["a", "b"]]),
        ({"gate:lt": "b"}, [["a"]]),
        ({"gate:gte": "b", "gate:lt": "f"}, [["b", "c", "d"], ["e"]]),
        ({"gate:gt": "f"}, [[]]),
        ({"gate:int:gte": 0}, [[]]),
        ({"gate:gte": "e", "gate:lt": "b"}, [[]]),
    ],
)
async def test_a_range_shows_only_what_lies_in_it_both_ways(
    served: Served, span: dict[str, Any], expected: list[list[str]]
) -> None:
    if not (await served.get(LIST, origin="RNG", day=1)).json()["items"]:
        await board(served, "RNG", "abcdef")
    found = await served.get(LIST, origin="RNG", day=1, **span)
    assert found.headers["cache-status"] == "neverstale; fwd=bypass; detail=mongodb"
    assert await walk(served, "RNG", "next", found.json(), **span) == expected
    last = found.json()
    while last["next"] is not None:
        last = (await served.get(LIST, origin="RNG", day=1, cursor=last["next"], **span)).json()
    assert [key for page in reversed(await walk(served, "RNG", "prev", last, **span)) for key in page] == [
        key for page in expected for key in page
    ]


async def test_a_total_says_how_many_documents_the_group_has(served: Served) -> None:
    await board(served, "TOT", "abcd")
    await served.applied(await served.write(flight("TOTx", origin="TOT", cancelled=True)))
    page = await served.get(LIST, origin="TOT", day=1, total="true", limit=2)
    assert (keys(page), page.json()["total"]) == (["TOTa", "TOTb"], 4)
    assert page.headers["neverstale-bound"] != "unknown"
    plain = await served.get(LIST, origin="TOT", day=1, limit=2)
    assert plain.headers["etag"] != page.headers["etag"]
    assert (await served.get(LIST, origin="TOT", day=1, limit=2, total="false")).content == plain.content
    with_view = await served.get(LIST, origin="TOT", day=1, total="true", fields="gate")
    assert with_view.json()["items"][0] == {"_id": "TOTa", "gate": "a"}
    assert with_view.json()["total"] == 4
    assert (await served.get(LIST, origin="none", day=9, total="true")).json()["total"] == 0


@pytest.mark.parametrize(
    ("path", "query", "parameter", "sentence"),
    [
        (LIST, {"limit": 0}, "limit", "from 1 to 3"),
        (LIST, {"limit": 4}, "limit", "from 1 to 3"),
        (LIST, {"limit": "two"}, "limit", "whole number"),
        (LIST, {"day:gte": 1}, "day:gte", "only gate, the first sorted field"),
        (LIST, {"gate:above": 1}, "gate:above", "a range of gate: gate:gte, gate:gt, gate:lte, gate:lt"),
        (LIST, {"gate:none:gte": 1}, "gate:none:gte", "is not a type"),
        (LIST, {"gate:int:gte": "x"}, "gate:int:gte", "expected a whole number"),
        (LIST, {"total": "yes"}, "total", "expected true or false"),
        (LIST, {"total": "true", "gate:gte": "a"}, "total", "counts the whole group"),
        ("lists/everything", {"total": "maybe"}, "total", "expected true or false"),
    ],
)
async def test_what_cannot_be_asked_of_a_page_is_a_400_that_teaches(
    served: Served, path: str, query: dict[str, Any], parameter: str, sentence: str
) -> None:
    group: dict[str, Any] = {"origin": "JFK", "day": 1} if path == LIST else {}
    response = await served.get(path, **group, **query)
    assert (response.status_code, response.json()["parameter"]) == (400, parameter)
    assert sentence in response.json()["detail"]


async def test_a_list_without_a_counter_names_the_one_that_is_missing(served: Served) -> None:
    described = (await served.world.http.get("/openapi.json")).json()["paths"]
    names = [one["name"] for one in described[f"/v1/{RESOURCE}/-/{LIST}"]["get"]["parameters"]]
    assert {"cursor", "limit", "gate:gte", "gate:gt", "gate:lte", "gate:lt", "total"} <= set(names)
