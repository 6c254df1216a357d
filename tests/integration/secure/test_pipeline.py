"""The whole pipeline, where every link has TLS and every role a user that may do what the docs say, and no more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.worlds.secured import Servers
from tests.worlds.secured_pipeline import FLIGHTS, PATHS, RESOURCE, Place, pipeline, soon, until_hit


@asynccontextmanager
async def nothing_refused(servers: Servers) -> AsyncIterator[None]:
    """By Redis, which tells; whatever was the matter besides."""
    try:
        yield
    finally:
        assert await servers.refusals_of_redis() == []


async def test_the_pipeline_runs_with_the_users_and_rights_of_the_docs(place: Place) -> None:
    async with nothing_refused(place.servers), pipeline(place) as http, place.writing() as flights:
        await flights.update_one({"_id": "1"}, {"$set": {"delay": 100}})
        await flights.delete_one({"_id": "2"})
        await flights.insert_one({"_id": "9", "origin": "JFK", "delay": 9})
        await soon(http, PATHS[0], 100, at="delay")
        await soon(http, PATHS[2], FLIGHTS, at="count")
        page = (await until_hit(http, PATHS[1])).json()["items"]
        assert [one["_id"] for one in page] == ["0", "3", "4", "9", "1"]
        assert (await until_hit(http, PATHS[4])).json()["items"][0]["key"] == "1"
        await until_hit(http, PATHS[0], "detail=l1")
        await soon(http, f"/v1/{RESOURCE}/-/most-read/1", "1", at="key")
        exported = await http.get(f"/v1/{RESOURCE}/-/export")
        assert len(exported.text.splitlines()) == FLIGHTS
        ready = (await http.get("/readyz")).json()
        assert {part for part, state in ready["parts"].items() if state != "ok"} <= {
            "apply_ops"
        }  # which says no more than that
