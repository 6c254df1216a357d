"""Watcher, consumer and API on secured servers, each with a user of its own, and a reader."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
from pymongo import AsyncMongoClient

import neverstale.consumers.main
import neverstale.streams.main
from neverstale.api.app import create_app
from neverstale.catalog import Catalog
from neverstale.ops.privileges.roles import ROLES, Role
from neverstale.settings import Settings
from tests.support.opened import carrying, opened_by
from tests.support.waiting import eventually
from tests.worlds.consuming import settings_of
from tests.worlds.deriving import running
from tests.worlds.secured import PATIENT_MS, Servers

RESOURCE: Final = "flights"
DECLARED: Final[dict[str, Any]] = {
    "key_type": "string",
    "fields": {"origin": "string", "delay": "int"},
    "lists": {"departures": {"by": ["origin"], "sort": ["delay", "_id"]}},
    "counters": {"by_origin": {"by": ["origin"], "sums": {"delay": {"field": "delay"}}}},
    "rankings": {"late": {"by": ["origin"], "score": "delay"}},
}
FLIGHTS: Final = 5


@dataclass(frozen=True)
class Place:
    """Users that may do what is said of them with one database, topic, group and prefix."""

    servers: Servers
    base: Settings
    catalog: Catalog

    @classmethod
    async def on(cls, servers: Servers) -> "Place":
        name = f"test{secrets.token_hex(6)}"
        base = settings_of("mongodb://set-below", "set.below:1", "redis://set-below", name, name)
        patient = base.redis.model_copy(update={"read_timeout_ms": PATIENT_MS, "connect_timeout_ms": PATIENT_MS})
        limits = base.limits.model_copy(update={"requests_per_second": 1000})
        base = base.model_copy(update={"redis": patient, "limits": limits})
        catalog = Catalog.model_validate({"database": name, "resources": {RESOURCE: DECLARED}})
        place = cls(servers, base, catalog)
        for role in ROLES:
            await servers.allow(role, base, catalog)
        return place

    def settings(self, role: Role, *, certificate: bool = False) -> Settings:
        return self.servers.settings(role, self.base, certificate=certificate)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Any]:
        """The collection, as product writers see it."""
        async with AsyncMongoClient[dict[str, Any]](self.servers.mongo_admin, w="majority") as client:
            yield client[self.catalog.database][RESOURCE]

    @asynccontextmanager
    async def api(self) -> AsyncIterator[httpx.AsyncClient]:
        app = create_app(self.settings("api"), self.catalog)
        async with opened_by(app) as state:
            transport = httpx.ASGITransport(carrying(app, state), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                yield client


@asynccontextmanager
async def pipeline(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """Everything runs, and has begun to count."""
    watcher, consumer = place.settings("watcher", certificate=True), place.settings("consumer")
    async with AsyncExitStack() as stack:
        writing = await stack.enter_async_context(place.writing())
        await writing.insert_many([{"_id": str(n), "origin": "JFK", "delay": n} for n in range(FLIGHTS)])
        await stack.enter_async_context(running(neverstale.streams.main.live, watcher, place.catalog, "watcher"))
        await stack.enter_async_context(running(neverstale.consumers.main.live, consumer, place.catalog, "consumer"))
        http = await stack.enter_async_context(place.api())
        for path in PATHS:
            await until_hit(http, path)
        yield http


PATHS: Final = (
    f"/v1/{RESOURCE}/1",
    f"/v1/{RESOURCE}/-/lists/departures?origin=JFK",
    f"/v1/{RESOURCE}/-/counters/by_origin?origin=JFK",
    f"/v1/{RESOURCE}/-/counters/by_origin",
    f"/v1/{RESOURCE}/-/rankings/late?origin=JFK",
    f"/v1/{RESOURCE}/-/rankings/late/1?origin=JFK",
)


async def until_hit(http: httpx.AsyncClient, path: str, detail: str = "", seconds: float = 25) -> httpx.Response:
    """Ask until the cache answers."""
    held: list[httpx.Response] = []

    async def hit() -> bool:
        held[:] = [await http.get(path)]
        return "; hit" in held[0].headers.get("cache-status", "") and detail in held[0].headers["cache-status"]

    try:
        await eventually(hit, f"{path} is answered by the cache", seconds)
    except AssertionError as error:
        ready = await http.get("/readyz")
        raise AssertionError(f"{error}; {held[0].headers.get('cache-status')} {held[0].text}; {ready.text}") from None
    return held[0]


async def soon(http: httpx.AsyncClient, path: str, expected: Any, *, at: str) -> None:
    """Wait until a part of the answer is as expected."""

    async def right() -> bool:
        answer = await http.get(path)
        return answer.status_code == 200 and answer.json().get(at) == expected

    await eventually(right, f"{path} has {at} = {expected}", 30)
