"""What the tests of commands that look into cells share: all roles on a Redis whose keys lie in cells."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

import neverstale.consumers.main
import neverstale.streams.main
from neverstale.catalog import Catalog, Resource
from neverstale.ops.redis.stores import stores
from neverstale.ops.stack.ports import free_port
from neverstale.ops.status import Status, gather
from neverstale.servers import mongo_client
from neverstale.settings import Settings
from tests.support.dropping import drop_database
from tests.support.waiting import eventually
from tests.worlds import hits
from tests.worlds.api import PATIENT_MS, World
from tests.worlds.consuming import settings_of
from tests.worlds.deriving import RESOURCE, catalog_of, running
from tests.worlds.serving import DECLARED


@dataclass
class InCells:
    """The pipeline runs, and an API that answers on a socket."""

    settings: Settings
    catalog: Catalog
    mongo: Any
    hot: hits.Served

    @property
    def resource(self) -> Resource:
        return self.catalog.resources[RESOURCE]

    async def write(self, *documents: dict[str, Any]) -> None:
        collection = self.mongo[self.catalog.database][RESOURCE]
        for document in documents:
            await collection.replace_one({"_id": document["_id"]}, document, upsert=True)

    async def read(self, path: str) -> bytes:
        async with self.hot.connection() as client:
            return await client.get(path)

    async def status(self) -> Status:
        return await gather(self.settings, self.catalog)

    async def until_well(self) -> Status:
        held: list[Status] = []

        async def well() -> bool:
            held[:] = [await self.status()]
            return held[0].ok

        try:
            await eventually(well, "nothing is wrong", 60)
        except AssertionError as error:
            raise AssertionError(f"{error}: {held[0].problems}") from None
        return held[0]

    async def until_complete(self) -> None:
        async def complete() -> bool:
            async with stores(self.settings, self.catalog) as opened:
                return (await opened.derived(self.resource).generations()).complete is not None

        await eventually(complete, "a generation is complete", 60)


@asynccontextmanager
async def in_cells(mongo_uri: str, kafka_servers: str, redis_url: str) -> AsyncIterator[InCells]:
    """Until the block ends."""
    name = f"test{secrets.token_hex(6)}"
    settings = settings_of(mongo_uri, kafka_servers, redis_url, name, name)
    changed = {
        "redis": {"cells": "partition", "read_timeout_ms": PATIENT_MS, "connect_timeout_ms": PATIENT_MS},
        "api": {"port": free_port()},  # the apps that run here have no socket there
    }
    update = {section: getattr(settings, section).model_copy(update=some) for section, some in changed.items()}
    settings, catalog = settings.model_copy(update=update), catalog_of(name, **DECLARED)
    async with AsyncExitStack() as stack:
        mongo = await stack.enter_async_context(mongo_client(settings.mongodb))
        await stack.enter_async_context(running(neverstale.streams.main.live, settings, catalog, "watcher"))
        await stack.enter_async_context(running(neverstale.consumers.main.live, settings, catalog, "consumer"))
        world = await stack.enter_async_context(World.of(settings, catalog, established=False))
        hot = await stack.enter_async_context(hits.Served.of(world))
        made = InCells(settings, catalog, mongo, hot)
        async with stores(settings, catalog) as opened:
            card = {"role": "api", "instance": "h-1", "pid": 1, "host": "h", "started_ms": 5, "version": "1"}
            card["url"] = f"http://127.0.0.1:{hot.port}"
            await opened.commands.send(("SET", opened.commands.names.role("api", "h-1"), orjson.dumps(card)))
        await made.until_complete()
        yield made
    await asyncio.to_thread(drop_database, mongo_uri, name)
