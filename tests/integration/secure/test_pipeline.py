"""The whole pipeline, where every link has TLS and every role a user that may do what the docs say, and no more."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from neverstale.kafka.producer import started_producer
from neverstale.ops.dead_letters.dead_letters import discard, listing, replay
from neverstale.ops.doctor.doctor import doctor
from neverstale.ops.repair.drift import drift
from neverstale.ops.repair.invalidate import InvalidateWanted, invalidate
from neverstale.ops.repair.rebuild import rebuild
from neverstale.ops.repair.resync import ResyncWanted, resync
from neverstale.ops.repair.warm import WarmWanted, warm
from neverstale.ops.status import gather
from neverstale.ops.why.why import why
from tests.support.waiting import eventually
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
        await all_commands_work(place)
        exported = await http.get(f"/v1/{RESOURCE}/-/export")
        assert len(exported.text.splitlines()) == FLIGHTS
        ready = (await http.get("/readyz")).json()
        assert {part for part, state in ready["parts"].items() if state != "ok"} <= {
            "apply_ops"
        }  # which says no more than that


async def all_commands_work(place: Place) -> None:
    """Of the operator, whose rights are those of the docs, too."""
    ours, catalog = place.settings("operator"), place.catalog
    found = await doctor(ours, catalog, observed_seconds=0.1)
    assert not [one for one in found if one.name == "unseen" or (one.check == "reachable" and one.level == "problem")]
    assert (await gather(ours, catalog)).roles
    assert (await resync(ours, catalog, ResyncWanted(RESOURCE), quiet=True)).ok
    assert (await rebuild(ours, catalog, RESOURCE, None, quiet=True)).ok
    assert (await drift(ours, catalog, RESOURCE, None)).ok
    assert (await invalidate(ours, catalog, InvalidateWanted(RESOURCE, ("1",)))).ok
    assert (await warm(ours, catalog, WarmWanted(RESOURCE, most_read=5, rate=1000), quiet=True)).past == 0
    assert (await why(ours, catalog, RESOURCE, "1"))[0].mongodb is not None
    async with started_producer(ours.kafka) as producer:
        await producer.send_and_wait(ours.kafka.topic, b"nonsense", partition=0)

    async def set_aside() -> bool:
        return bool((await listing(ours, catalog.database, 10)).letters)

    await eventually(set_aside, "the dead letter is told", 30)
    assert (await replay(ours, catalog.database, None)).ids
    await eventually(set_aside, "it is a dead letter again", 30)
    assert (await discard(ours, catalog.database, None)).ids
