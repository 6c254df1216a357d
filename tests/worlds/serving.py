"""What the tests of derived data over HTTP share: the pipeline on real servers, an API on it, and its readers."""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import orjson

from neverstale.derived.lists import queries as list_queries
from neverstale.mongodb import bson_json
from neverstale.settings import Settings
from neverstale.versions import from_timestamp, to_hex
from tests.support.dropping import drop_database
from tests.support.waiting import eventually
from tests.worlds import hits
from tests.worlds.api import PATIENT_MS, World
from tests.worlds.consuming import settings_of
from tests.worlds.deriving import RESOURCE, Deriving, catalog_of

DECLARED: dict[str, Any] = {
    "fields": {
        "origin": "string",
        "day": "int",
        "gate": "string",
        "delay": "int",
        "tail": "string",
        "seat": "int",
        "crew": "any",
    },
    "lists": {
        "departures": {
            "by": ["origin", "day"],
            "where": {"cancelled": False},
            "sort": ["gate"],
            "page_size": 3,
            "cached_pages": 2,
        },
        "everything": {"page_size": 50},
    },
    "counters": {
        "by_status": {"by": ["origin", "status"]},
        "delays": {"by": ["day"], "sums": {"delay": {"field": "delay"}, "cost": {"field": "cost", "scale": 2}}},
        "all": {},
        "board": {"by": ["cancelled", "day", "origin"]},
    },
    "rankings": {"late": {"by": ["day"], "score": "delay", "size": 5}, "early": {"score": "-delay"}},
    "lookups": ["tail", "seat", "crew.badge"],
}


@dataclass
class Served:
    """The pipeline runs, and an API on it."""

    deriving: Deriving
    world: World

    @property
    def documents(self) -> Any:
        return self.deriving.documents

    async def write(self, *documents: dict[str, Any]) -> str:
        """Put documents; answers the version of the last."""
        async with self.deriving.mongo.start_session() as session:
            for document in documents:
                await self.documents.replace_one({"_id": document["_id"]}, document, upsert=True, session=session)
            assert session.operation_time is not None
            return to_hex(from_timestamp(session.operation_time))

    async def applied(self, version: str) -> None:
        """Wait until the API knows that this was applied."""

        async def known() -> bool:
            mark = self.world.freshness.watermark
            return mark is not None and to_hex(mark) >= version

        await eventually(known, f"{version} is applied")

    async def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> httpx.Response:
        text = f"?{urlencode(query)}" if query else ""
        return await self.world.http.get(f"/v1/{RESOURCE}/-/{path}{text}", headers=headers or {})

    async def until_hit(self, path: str, **query: Any) -> httpx.Response:
        """Ask until the cache answers."""
        held: list[httpx.Response] = []

        async def hit() -> bool:
            response = await self.get(path, **query)
            assert response.status_code == 200, response.text
            held[:] = [response]
            return "; hit" in response.headers["cache-status"]

        await eventually(hit, f"{path} is answered by the cache")
        return held[0]


def flight(key: str, **fields: Any) -> dict[str, Any]:
    return {
        "_id": key,
        "origin": "JFK",
        "day": 1,
        "gate": "a",
        "cancelled": False,
        "status": "s",
        "delay": 0,
    } | fields


@asynccontextmanager
async def serving(
    mongo_uri: str,
    kafka_servers: str,
    redis_url: str,
    declared: dict[str, Any] = DECLARED,
    others: Mapping[str, Any] | None = None,
) -> AsyncIterator[Served]:
    """Until the block ends; a few seconds to start, so a module shares it. `others`: further resources."""
    name = f"test{secrets.token_hex(6)}"
    settings: Settings = settings_of(mongo_uri, kafka_servers, redis_url, name, name)
    redis = settings.redis.model_copy(update={"read_timeout_ms": PATIENT_MS, "connect_timeout_ms": PATIENT_MS})
    settings = settings.model_copy(update={"redis": redis})
    catalog = catalog_of(name, others, **declared)
    async with AsyncExitStack() as stack:
        deriving = await stack.enter_async_context(Deriving.on(settings, catalog))
        await stack.enter_async_context(deriving.watcher())
        await stack.enter_async_context(deriving.consumer())
        await deriving.until_complete()
        world = await stack.enter_async_context(World.of(settings, catalog, established=False))
        served = Served(deriving, world)
        await served.applied(await served.write(flight("first", origin="none")))
        yield served
    await asyncio.to_thread(drop_database, mongo_uri, name)


def keys(response: httpx.Response) -> list[str]:
    return [item["_id"] for item in response.json()["items"]]


# --- readers whose answers come before ASGI


async def cached(hot: hits.Served, path: str) -> bytes:
    """Ask until the cache answers; the response."""
    held: list[bytes] = []

    async def hit() -> bool:
        async with hot.connection() as client:
            held[:] = [await client.get(path)]
        return b"; hit; " in held[0]

    await eventually(hit, f"{path} is cached")
    return held[0]


def without_place(response: bytes) -> bytes:
    """Which of the two caches answered is the only difference that there may be."""
    return hits.unmoved(response).replace(b"detail=l1", b"detail=l2")


async def in_l1(hot: hits.Served, path: str) -> bytes:
    """Ask until the process's memory answers; the response."""
    held: list[bytes] = []

    async def hit() -> bool:
        async with hot.connection() as client:
            held[:] = [await client.get(path)]
        return b"detail=l1" in held[0]

    await eventually(hit, f"{path} is in L1")
    return held[0]


async def heard(hot: hits.Served, version: str) -> None:
    """Wait until L1 is vouched for up to here."""

    async def vouched() -> bool:
        return to_hex(hot.hot.l1.watermark) >= version

    await eventually(vouched, "L1 has heard of it")


async def all_pages(hot: hits.Served, origin: str | None, day: int, ways: Counter[str]) -> list[Any]:
    """The documents of a group, page by page, as a hot client reads them."""
    found: list[Any] = []
    cursor = ""
    async with hot.connection() as client:
        while True:
            group = "origin:null" if origin is None else f"origin={origin}"
            answered = await client.get(f"/v1/{RESOURCE}/-/lists/departures?{group}&day={day}{cursor}")
            ways[(hits.header(answered, "cache-status") or "")[-2:]] += 1
            page = orjson.loads(hits.body(answered))
            found += page["items"]
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"


async def listed(served: Served, origin: str | None, day: int) -> list[Any]:
    """What MongoDB says of it now that nobody writes."""
    declared = served.deriving.resource.lists["departures"]
    fields = dict.fromkeys(served.deriving.resource.fields or (), 1)
    found = served.documents.find(list_queries.list_filter(declared, (origin, day)), fields).sort(
        list(declared.order)
    )
    return [orjson.loads(bson_json.encode(one)) for one in await found.to_list()]
