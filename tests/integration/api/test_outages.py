"""What readers see when a server is away: Redis, MongoDB, or both. An outage is not a miss, and never a stale value.

| away | what is cached | the rest | `/readyz` |
|---|---|---|---|
| Redis (dead, stopped, slow, loading) | MongoDB, within the bulkhead | the same | ready, and says so |
| Redis, for writes (no memory, read-only) | as ever | MongoDB, not cached | ready |
| MongoDB | as ever, with a growing bound | 503 and Retry-After; stale if the caller allows it | ready, and says so |
| both | 503 and Retry-After | the same | 503 |
"""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from neverstale import settings as sections
from neverstale.catalog import Resource
from neverstale.errors import Outage
from neverstale.keys import KeyValue
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.ops.stack.mongod import ReplicaSet
from neverstale.ops.stack.redis import RedisOptions, RedisServer, start_redis
from neverstale.redis.entries import EntryState
from neverstale.role import telemetry
from neverstale.settings import Settings
from neverstale.versions import Version, to_hex
from tests.faults.rig.proxy import Proxy
from tests.support.stack import LocalServers
from tests.support.waiting import eventually
from tests.worlds.api import PATIENT_MS, World, catalog_of, settings_of

BUDGET_SECONDS = 3.0
"""More than any answer may take here, on a busy machine, while a server is away."""


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that the test may hurt."""
    async with await start_redis(RedisOptions(data=tmp_path)) as server:
        yield server
        server.signal(Signals.SIGCONT)


@pytest.fixture(scope="module")
def mongod() -> Iterator[ReplicaSet]:
    """A MongoDB that the tests may hurt; it runs between them."""
    servers = LocalServers()
    yield servers.mongod
    servers.stop()


def hurried(mongo_uri: str, redis_url: str) -> Settings:
    """Time-outs as in production, for a machine that is busy with other tests."""
    patient = settings_of(mongo_uri, redis_url, "test", breaker_open_ms=200, queue_deadline_ms=PATIENT_MS)
    redis = sections.RedisSettings(
        url=SecretStr(redis_url), prefix="test", read_timeout_ms=150, connect_timeout_ms=250
    )
    mongodb = sections.MongoDB(uri=SecretStr(mongo_uri), server_selection_timeout_ms=500, read_timeout_ms=1000)
    return patient.model_copy(update={"redis": redis, "mongodb": mongodb})


@asynccontextmanager
async def cached(settings: Settings, database: str) -> AsyncIterator[World]:
    """A world in which `a` is cached and `b` is not."""
    async with World.of(settings, catalog_of(database)) as world:
        await world.write("things", {"_id": "a", "n": 1}, {"_id": "b", "n": 1})
        await until_hit(world)
        yield world


async def until_hit(world: World, key: str = "a") -> httpx.Response:
    answers: list[httpx.Response] = []

    async def hit() -> bool:
        answers.append(await world.http.get(f"/v1/things/{key}"))
        return "; hit;" in answers[-1].headers.get("cache-status", "")

    await eventually(hit, f"{key} is a hit")
    return answers[-1]


async def timed(world: World, path: str, **headers: str) -> httpx.Response:
    """An answer, within the budget."""
    started = time.monotonic()
    response = await world.http.get(path, headers=headers)
    assert time.monotonic() - started < BUDGET_SECONDS
    return response


async def all_answered(world: World, keys: Sequence[str] = ("a", "b", "nobody")) -> None:
    for _ in range(5):
        responses = await asyncio.gather(*(timed(world, f"/v1/things/{key}") for key in keys))
        assert [response.status_code for response in responses] == [404 if key == "nobody" else 200 for key in keys]


async def part(world: World, server: str) -> tuple[bool, str]:
    """Whether the API is ready, and what it says about a server."""
    response = await world.http.get("/readyz")
    assert response.json()["ready"] == (response.status_code == 200)
    return response.json()["ready"], response.json()["parts"][server]


# --- Redis


async def test_a_redis_that_is_stopped_costs_time_outs_first_and_then_nothing(
    mongo_uri: str, database: str, redis: RedisServer
) -> None:
    async with cached(hurried(mongo_uri, redis.url), database) as world:
        redis.signal(Signals.SIGSTOP)
        await all_answered(world)
        response = await timed(world, "/v1/things/a")
        assert response.headers["cache-status"] == "neverstale; fwd=bypass; detail=mongodb"
        assert telemetry.REGISTRY.get_sample_value("neverstale_breaker_open", {"server": "redis"}) == 1
        assert (await part(world, "redis"))[0]
        redis.signal(Signals.SIGCONT)
        await until_hit(world)


async def test_a_redis_that_is_killed_and_comes_back_empty_is_filled_again(
    mongo_uri: str, database: str, redis: RedisServer
) -> None:
    async with cached(hurried(mongo_uri, redis.url), database) as world:
        redis.kill()
        await all_answered(world)

        async def reported() -> bool:
            ready, state = await part(world, "redis")
            return ready and state != "ok"

        await eventually(reported, "/readyz names Redis")
        await redis.restart()
        await all_answered(world)
        await eventually(partial(established, world), "registers are established, as consumers do it")
        await until_hit(world)


async def established(world: World) -> bool:
    try:
        return await world.cache.establish(world.catalog.collections, world.loader.now) > 0
    except Outage:  # the test's own connection died too
        return False


async def test_a_redis_that_is_slow_is_left_alone(mongo_uri: str, database: str, redis: RedisServer) -> None:
    async with Proxy(redis.port) as proxy, cached(hurried(mongo_uri, proxy.redis_url), database) as world:
        proxy.delay(1.0)
        await all_answered(world)
        proxy.heal()
        await until_hit(world)


async def test_connections_that_are_cut_again_and_again_harm_nobody(
    mongo_uri: str, database: str, redis: RedisServer
) -> None:
    async with Proxy(redis.port) as proxy, cached(hurried(mongo_uri, proxy.redis_url), database) as world:
        for _ in range(20):
            reading = asyncio.gather(*(timed(world, "/v1/things/a") for _ in range(5)))
            await asyncio.sleep(random.Random(1).random() / 100)
            proxy.cut()
            assert {response.json()["n"] for response in await reading} == {1}
        await until_hit(world)


@pytest.mark.parametrize(
    "error", ["LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MISCONF", "NOAUTH", "ERR"]
)
async def test_an_error_reply_is_an_outage_and_not_a_miss(mongo_uri: str, database: str, error: str) -> None:
    async with refusing(f"-{error} no\r\n".encode()) as url:
        settings = hurried(mongo_uri, url)
        async with World.of(settings, catalog_of(database), established=False) as world:
            await world.write("things", {"_id": "a", "n": 1}, {"_id": "b", "n": 1})
            await all_answered(world)


@asynccontextmanager
async def refusing(reply: bytes) -> AsyncIterator[str]:
    """A server that greets clients as Redis does and answers every command with an error."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    length = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(length + 2))[:-2].upper())
                greeting = {b"CLIENT": b"+OK\r\n", b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n"}
                writer.write(greeting.get(words[0], reply))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()


async def test_a_redis_without_memory_serves_what_it_has_and_takes_nothing(
    mongo_uri: str, database: str, redis: RedisServer
) -> None:
    async with cached(hurried(mongo_uri, redis.url), database) as world:
        await world.redis.config_set("maxmemory-policy", "noeviction")
        await world.redis.config_set("maxmemory", "1")
        await all_answered(world)
        assert (await timed(world, "/v1/things/a")).headers["cache-status"] == "neverstale; hit; detail=l2"
        missing = await timed(world, "/v1/things/b")
        assert missing.headers["cache-status"] == "neverstale; fwd=miss; detail=mongodb"
        assert await world.entry("things", "b") is None
        await world.redis.config_set("maxmemory", "0")
        await until_hit(world, "b")


async def test_a_replica_serves_hits_and_grants_no_leases(mongo_uri: str, database: str, redis: RedisServer) -> None:
    async with cached(hurried(mongo_uri, redis.url), database) as world:
        await world.redis.replicaof("127.0.0.1", "1")  # its master is not there, its data are
        await all_answered(world)
        assert (await timed(world, "/v1/things/a")).headers["cache-status"] == "neverstale; hit; detail=l2"
        missing = await timed(world, "/v1/things/b")
        assert missing.headers["cache-status"] == "neverstale; fwd=miss; detail=mongodb"
        await world.redis.replicaof("NO", "ONE")
        await until_hit(world, "b")


async def test_without_redis_mongodb_is_read_by_few_at_once(
    mongo_uri: str, database: str, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, most = 0, 0
    load = Loader.load

    async def counted(loader: Loader, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return await load(loader, resource, keys, at_least)
        finally:
            under_way -= 1

    monkeypatch.setattr(Loader, "load", counted)
    settings = hurried(mongo_uri, redis.url)
    settings = settings.model_copy(update={"api": settings.api.model_copy(update={"mongodb_concurrency": 3})})
    async with cached(settings, database) as world:
        redis.kill()

        async def client(number: int) -> None:
            for _ in range(5):
                assert (await world.http.get(f"/v1/things/{number % 20}")).status_code == 404

        await asyncio.gather(*(client(number) for number in range(60)))
    assert 1 <= most <= 3


# --- MongoDB


@pytest.fixture
async def mongoless(mongod: ReplicaSet, redis: RedisServer) -> AsyncIterator[World]:
    """`a` is cached, `stale` has an old body, `b` is not cached; marks were applied; then MongoDB died."""
    async with cached(hurried(mongod.uri, redis.url), f"test_{secrets.token_hex(6)}") as world:
        await world.write("things", {"_id": "stale", "n": 1})
        await world.mark()
        await until_hit(world, "stale")
        await world.mark()
        await world.apply("things", ["stale"], await world.write("things", {"_id": "stale", "n": 2}))
        mongod.kill()
        yield world
        await mongod.restart()


async def test_without_mongodb_what_is_cached_is_served_with_a_growing_bound(mongoless: World) -> None:
    first = await timed(mongoless, "/v1/things/a")
    assert (first.status_code, first.headers["cache-status"]) == (200, "neverstale; hit; detail=l2")

    async def grew() -> bool:
        bound = (await timed(mongoless, "/v1/things/a")).headers["neverstale-bound"]
        return float(bound) > float(first.headers["neverstale-bound"]) + 0.5

    await eventually(grew, "the bound grows")

    async def reported() -> bool:
        ready, state = await part(mongoless, "mongodb")
        return ready and state != "ok"

    await eventually(reported, "/readyz names MongoDB")


@pytest.mark.parametrize("path", ["/v1/things/b", "/v1/things/stale", "/v1/things?keys=a,b"])
async def test_without_mongodb_the_rest_is_a_503_that_says_when_to_come_back(mongoless: World, path: str) -> None:
    for _ in range(6):  # before and after the breaker has opened
        response = await timed(mongoless, path)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["type"] == "urn:neverstale:unavailable"
        assert "127.0.0.1" not in response.text
    no_cache = await timed(mongoless, "/v1/things/a", **{"cache-control": "no-cache"})
    assert no_cache.status_code == 503


async def test_without_mongodb_a_stale_body_is_served_to_whoever_allows_it(mongoless: World) -> None:
    allowed = await timed(mongoless, "/v1/things/stale", **{"cache-control": "stale-if-error=60"})
    assert (allowed.status_code, allowed.json()["n"]) == (200, 1)
    assert allowed.headers["cache-status"] == "neverstale; fwd=stale; fwd-status=503; detail=l2"
    assert 0 < float(allowed.headers["neverstale-bound"]) <= 60
    too_old = await timed(mongoless, "/v1/things/stale", **{"cache-control": "stale-if-error=0"})
    assert too_old.status_code == 503
    fresher = {"cache-control": "max-age=0, stale-if-error=60"}
    assert (await timed(mongoless, "/v1/things/a", **fresher)).status_code == 200
    nothing_held = await timed(mongoless, "/v1/things/b", **{"cache-control": "stale-if-error=60"})
    assert nothing_held.status_code == 503


async def test_without_mongodb_a_least_version_is_never_given_up(mongoless: World) -> None:
    mark = mongoless.freshness.watermark
    assert mark is not None
    demand = {"cache-control": "stale-if-error=3600", "neverstale-min-version": to_hex(mark + 1)}
    for key in ("a", "stale"):
        assert (await timed(mongoless, f"/v1/things/{key}", **demand)).status_code == 503


async def test_a_stale_body_survives_failing_reads(mongoless: World) -> None:
    for _ in range(5):
        assert (await timed(mongoless, "/v1/things/stale")).status_code == 503
    entry = await mongoless.entry("things", "stale")
    assert entry is not None
    assert (entry.state, entry.body) == (EntryState.STALE, b'{"_id":"stale","n":1}')


async def test_when_mongodb_is_back_everything_is_answered(mongoless: World, mongod: ReplicaSet) -> None:
    assert (await timed(mongoless, "/v1/things/b")).status_code == 503
    await mongod.restart()

    async def answered() -> bool:
        return (await mongoless.http.get("/v1/things/stale")).status_code == 200

    await eventually(answered, "MongoDB is read again", seconds=30)
    assert (await mongoless.http.get("/v1/things/stale")).json()["n"] == 2
    await until_hit(mongoless, "b")


async def test_without_both_everything_is_a_503_and_the_api_is_not_ready(
    mongoless: World, redis: RedisServer
) -> None:
    redis.kill()
    for _ in range(6):
        responses = await asyncio.gather(*(timed(mongoless, f"/v1/things/{key}") for key in ("a", "b")))
        assert [response.status_code for response in responses] == [503, 503]
        assert all("retry-after" in response.headers for response in responses)

    async def not_ready() -> bool:
        return not (await part(mongoless, "mongodb"))[0]

    await eventually(not_ready, "the API is not ready")
    assert (await mongoless.http.get("/livez")).status_code == 200


# --- clients that go away


async def test_clients_that_go_away_take_nothing_with_them(mongo_uri: str, database: str, redis: RedisServer) -> None:
    """Reads are cancelled at random moments, while replies are late; all others get the right documents."""
    dice = random.Random(7)
    async with Proxy(redis.port) as proxy:
        settings = settings_of(mongo_uri, proxy.redis_url, "test")
        async with World.of(settings, catalog_of(database)) as world:
            numbers = [str(number) for number in range(50)]
            await world.write("things", *({"_id": number, "n": int(number)} for number in numbers))
            proxy.delay(0.002)
            for _ in range(40):
                await some_cancelled(world, numbers, dice)
            await all_right(world, numbers)

            async def idle() -> bool:
                return pool_in_use(world) == 0

            await eventually(idle, "no connection to Redis is left in use")


async def some_cancelled(world: World, keys: Sequence[str], dice: random.Random) -> None:
    wanted = [dice.choice(keys) for _ in range(30)]
    reads = [asyncio.create_task(world.reader.get(world.things, key)) for key in wanted]
    if dice.random() < 0.3:
        await world.apply("things", [dice.choice(keys)], await world.loader.now())
    await asyncio.sleep(dice.random() * 0.01)
    for read in reads[::3]:
        read.cancel()
    for key, answer in zip(wanted, await asyncio.gather(*reads, return_exceptions=True), strict=True):
        if not isinstance(answer, asyncio.CancelledError):
            assert not isinstance(answer, BaseException)
            assert answer.body == f'{{"_id":"{key}","n":{key}}}'.encode()


async def all_right(world: World, keys: Sequence[str]) -> None:
    for key in keys:
        entry = await world.entry("things", key)
        if entry is not None and entry.fresh:
            assert entry.body == f'{{"_id":"{key}","n":{key}}}'.encode()
        answer = await world.reader.get(world.things, key)
        assert answer.body == f'{{"_id":"{key}","n":{key}}}'.encode()


def pool_in_use(world: World) -> int:
    pool: Any = world.reader._cache._redis.connection_pool
    return len(pool._in_use_connections)
