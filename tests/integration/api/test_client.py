"""A caller's session against the API, while no consumer tells the cache anything."""

import httpx

from neverstale.client import Session
from tests.support.opened import ordinary
from tests.worlds.api import World, catalog_of, settings_of


async def test_a_session_reads_its_own_writes(
    mongo_uri: str, redis_url: str, database: str, redis_prefix: str
) -> None:
    async with World.of(settings_of(mongo_uri, redis_url, redis_prefix), catalog_of(database)) as world:
        await world.write("things", {"_id": "a", "n": 1})
        await world.http.get("/v1/things/a")
        await world.until_filled("things", "a")
        reads = Session()
        async with world.mongo.start_session() as session:
            await world.mongo[database]["things"].update_one({"_id": "a"}, {"$set": {"n": 2}}, session=session)
            reads.wrote(session)
        transport = httpx.ASGITransport(ordinary(world.app, world.state))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://api", event_hooks=reads.async_hooks()
        ) as http:
            # Anybody else is told what the cache holds.
            assert (await world.http.get("/v1/things/a")).json()["n"] == 1
            assert (await http.get("/v1/things/a")).json()["n"] == 2
        assert reads.headers
