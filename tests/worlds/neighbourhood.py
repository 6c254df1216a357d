"""What the test of neighbours shares: all roles in one process, and somebody else at their Redis and their topic."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson
from aiokafka import AIOKafkaProducer
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from neverstale.api.app import create_app
from neverstale.api.state import State
from neverstale.catalog import Catalog
from neverstale.consumers.main import live as consume
from neverstale.derived import generations
from neverstale.derived.redis_names import DerivedNames, GenerationNames
from neverstale.keys import Names
from neverstale.role.service import Health, Life
from neverstale.servers import mongo_client
from neverstale.settings import Settings
from neverstale.streams.main import live as watch
from tests.support.opened import carrying, opened_by
from tests.support.waiting import eventually

PATIENCE_MS: Final = 20_000
SECONDS: Final = 30.0
BACKGROUND: Final = frozenset(
    ("channel", "watermark", "clock", "generations", "count", "tally", "card", "registers", "horizon", "favourites")
)


def catalog_of(database: str) -> Catalog:
    things = {
        "key_type": "string",
        "lists": {"by_kind": {"by": ["kind"], "sort": ["_id"]}},
        "counters": {"kinds": {"by": ["kind"], "sums": {"size": {"field": "size", "scale": 0}}}},
        "rankings": {"largest": {"score": "size", "size": 10}},
    }
    return Catalog.model_validate(
        {"database": database, "resources": {"things": things, "others": {"key_type": "string"}}}
    )


def settings_of(mongo_uri: str, kafka_servers: str, redis_url: str, topic: str, prefix: str) -> Settings:
    return Settings.model_validate(
        {
            "mongodb": {"uri": mongo_uri, "read_timeout_ms": PATIENCE_MS, "server_selection_timeout_ms": PATIENCE_MS},
            "kafka": {
                "bootstrap_servers": kafka_servers,
                "topic": topic,
                "group": topic,
                "fetch_max_wait_ms": 100,
                "partitions": 2,
            },
            "redis": {"url": redis_url, "prefix": prefix, "read_timeout_ms": PATIENCE_MS},
            "watcher": {"group": topic, "heartbeat_ms": 100},
            "consumer": {"commit_interval_ms": 50, "dead_letters_burst": 100_000},
            "api": {"channel_silence_ms": PATIENCE_MS, "reads_flush_ms": 50, "public_pages": "all"},
        }
    )


@dataclass
class Neighbourhood:
    settings: Settings
    catalog: Catalog
    http: httpx.AsyncClient
    mongo: AsyncMongoClient[dict[str, Any]]
    redis: Any
    kafka: AIOKafkaProducer
    roles: dict[str, asyncio.Task[None]]
    state: State
    written: int = 0
    written_at: float = 0.0

    @classmethod
    @asynccontextmanager
    async def of(cls, settings: Settings, catalog: Catalog, neighbours_url: str) -> AsyncIterator["Neighbourhood"]:
        app = create_app(settings, catalog)

        lives = {role: Life(role, role, asyncio.Event(), Health(), "") for role in ("watcher", "consumer")}
        redis = Redis.from_url(neighbours_url, socket_timeout=PATIENCE_MS / 1000)
        async with mongo_client(settings.mongodb) as mongo:
            await mongo[catalog.database]["others"].insert_one({"_id": "o", "n": 0})
            roles = {
                "watcher": asyncio.create_task(watch(settings, catalog, lives["watcher"])),
                "consumer": asyncio.create_task(consume(settings, catalog, lives["consumer"])),
            }
            try:
                async with (
                    AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=0) as kafka,
                    opened_by(app) as state,
                    httpx.AsyncClient(
                        transport=httpx.ASGITransport(carrying(app, state), raise_app_exceptions=False),
                        base_url="http://api",
                    ) as http,
                ):
                    world = cls(settings, catalog, http, mongo, redis, kafka, roles, state)
                    await world.write()
                    await world.well()
                    yield world
            finally:
                for life in lives.values():
                    life.stop.set()
                await asyncio.gather(*roles.values(), return_exceptions=True)
                await redis.aclose()

    # --- writers and readers

    async def write(self) -> None:
        """Another state of all that is read."""
        number = self.written + 1
        for key, kind in (("a", "x"), ("b", "y")):
            document = {"_id": key, "kind": kind, "size": number}
            things = self.mongo[self.catalog.database]["things"]
            await things.replace_one({"_id": key}, document, upsert=True)
        self.written, self.written_at = number, time.monotonic()

    async def faults(self) -> list[str]:
        """What is wrong with answers now, whatever state the cache is in."""
        wrong = []
        for path, sound in (
            ("/v1/others/o", lambda body: body["n"] == 0),
            ("/v1/things/a", lambda body: 0 < body["size"] <= self.written),
            ("/v1/things/-/lists/by_kind?kind=x", lambda body: [item["_id"] for item in body["items"]] == ["a"]),
            ("/v1/things/-/counters/kinds?kind=x", lambda body: body["count"] == 1),
            ("/v1/things/-/counters/kinds", lambda body: body["total"]["count"] == 2),
            ("/v1/things/-/rankings/largest", lambda body: [item["rank"] for item in body["items"]] == [1, 2]),
            ("/v1/things/-/most-read", lambda body: all(item["key"] in ("a", "b") for item in body["items"])),
        ):
            since = time.monotonic()
            answer = await self.http.get(path)
            try:
                problem = _problem(answer, sound)
                if problem is None and self._is_false(answer, since):
                    problem = f"bound {answer.headers['neverstale-bound']} is false"
            except Exception as error:
                problem = f"{error!r}: {answer.text[:200]}"
            if problem:
                wrong.append(f"{path}: {problem}")
        return wrong

    def _is_false(self, answer: httpx.Response, since: float) -> bool:
        """Whether a change is missing that was acknowledged longer ago than the bound says."""
        bound, size = answer.headers.get("neverstale-bound"), orjson.loads(answer.content).get("size")
        misses = size is not None and size < self.written
        return misses and bound != "unknown" and since - self.written_at > float(bound)

    async def well(self, what: str = "the start") -> None:
        """Until all is answered from the cache, with a bound, in its newest state."""
        seen: list[str] = []

        async def all_well() -> bool:
            seen[:] = []
            for path in (
                "/v1/things/a",
                "/v1/things/-/lists/by_kind?kind=x",
                "/v1/things/-/counters/kinds?kind=x",
                "/v1/things/-/rankings/largest",
                "/v1/others/o",
            ):
                answer = await self.http.get(path)
                body, status = answer.text, answer.headers.get("cache-status", "")
                if "hit" not in status or answer.headers["neverstale-bound"] == "unknown":
                    seen.append(f"{path} {answer.status_code} {status} {answer.headers.get('neverstale-bound')}")
                elif path == "/v1/things/a" and orjson.loads(body)["size"] != self.written:
                    seen.append(f"{path} {body}")
                if seen:
                    break  # the rest can wait: to ask for all of them, time and again, was half of the work
            self.check_roles()
            return not seen

        try:
            await eventually(all_well, what, SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen} {(await self.http.get('/v1/freshness')).text}") from None

    async def well_in_memory(self) -> None:
        """Until L1 is vouched for again and answers."""

        async def answers() -> bool:
            answer = await self.http.get("/v1/things/a")
            return "detail=l1" in answer.headers.get("cache-status", "")

        await eventually(answers, "L1 answers", SECONDS)

    @staticmethod
    def background() -> set[str]:
        """Tasks of the roles that are to live as long as they do."""
        names = {task.get_name() for task in asyncio.all_tasks() if not task.done()}
        return names & {
            "channel",
            "watermark",
            "clock",
            "generations",
            "count",
            "tally",
            "card",
            "registers",
            "horizon",
        }

    def check_roles(self) -> None:
        for role, task in self.roles.items():
            assert not task.done(), f"the {role} ended: {task}"

    async def readiness(self) -> tuple[int, dict[str, str]]:
        answer = await self.http.get("/readyz")
        return answer.status_code, answer.json()["parts"]

    # --- names

    @property
    def names(self) -> Names:
        return Names(self.settings.redis.prefix)

    @property
    def derived(self) -> DerivedNames:
        return DerivedNames(self.settings.redis.prefix, "things")

    async def generation(self) -> GenerationNames:
        raw = await self.redis.get(self.derived.generations)
        complete = generations.decode(raw).complete
        assert complete is not None
        return self.derived.of(complete.id)


def _problem(answer: httpx.Response, sound: Any) -> str | None:
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text[:200]}"
    if "x-injected" in answer.headers or any("\n" in value or "\r" in value for value in answer.headers.values()):
        return f"split: {answer.headers}"
    return None if sound(answer.json()) else f"nonsense: {answer.text[:200]}"
