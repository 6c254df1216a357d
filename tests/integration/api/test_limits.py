"""Limits hold on every way that an answer can take, count all processes together, and outlive Redis."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from neverstale import settings as sections
from neverstale.errors import Outage
from neverstale.redis.cache import Cache
from tests.support.dropping import drop_database
from tests.worlds.api import World, catalog_of, settings_of
from tests.worlds.hits import Served, header, request, status, unmoved

SLOW: dict[str, Any] = {"requests_per_second": 0.01, "key_header": "X-Key"}
"""Nothing flows in during a test, and every test line has a bucket of its own."""


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(mongo_uri: str, redis_url: str) -> AsyncIterator[World]:
    name = f"test_{secrets.token_hex(6)}"
    async with World.of(settings_of(mongo_uri, redis_url, name), catalog_of(name)) as world:
        await world.write("things", {"_id": "a", "n": 1})
        yield world
        await asyncio.to_thread(drop_database, mongo_uri, name)
        for key in [key async for key in world.redis.scan_iter(f"{name}*", count=1000)]:
            await world.redis.delete(key)


@asynccontextmanager
async def limited(world: World, **limits: Any) -> AsyncIterator[Served]:
    """A server with these limits."""
    world.settings = world.settings.model_copy(update={"limits": sections.Limits(**(SLOW | limits))})
    async with Served.of(world, proxy_headers=False) as served:
        await served.mark()
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(world: World) -> AsyncIterator[Served]:
    async with limited(world, burst=400) as served:
        await served.kept("/v1/things/a", "a")
        yield served


async def ask(served: Served, count: int, key: str, *headers: str, path: str = "/v1/things/a") -> list[bytes]:
    async with served.connection() as client:
        return [await client.get(path, f"X-Key: {key}", *headers) for _ in range(count)]


def remaining(response: bytes) -> int:
    text = header(response, "ratelimit")
    assert text is not None
    return int(text.split(";r=")[1].split(";")[0])


async def test_hits_in_memory_are_counted_one_by_one(served: Served) -> None:
    answers = await ask(served, 410, "hot")
    assert [status(each) for each in answers] == [200] * 400 + [429] * 10
    assert [remaining(each) for each in answers] == [*range(399, -1, -1), *[0] * 10]
    assert all(b"detail=l1" in each for each in answers[:400])


async def test_most_hits_of_a_busy_caller_take_the_short_way(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    send = Cache.send

    async def counted(cache: Cache, *commands: Any) -> Any:
        calls.extend(command for command in commands if command[0] == "EVALSHA" and b":limit:" in command[3])
        return await send(cache, *commands)

    monkeypatch.setattr(Cache, "send", counted)
    await ask(served, 400, "busy")
    assert 1 < len(calls) < 20


async def test_a_refusal_says_when_to_come_again(served: Served) -> None:
    *_, refusal = await ask(served, 401, "again")
    assert refusal.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b'"type":"urn:neverstale:too-many-requests"' in refusal
    assert header(refusal, "ratelimit-policy") == '"default";q=400;w=40000'
    seconds = header(refusal, "retry-after")
    assert seconds is not None and 90 < int(seconds) <= 100


def uncounted(response: bytes) -> bytes:
    """Without what the count, the clock, and where it was found change."""
    for changing in (rb";r=\d+;t=\d+", rb"detail=l\d"):
        response = re.sub(changing, b"", response)
    return unmoved(response)


async def test_all_ways_answer_with_the_same_bytes(served: Served) -> None:
    short = await ask(served, 60, "ways")  # the first of them waited for a token
    (ordinary,) = await ask(served, 1, "ways", "Cache-Control: max-stale")
    assert {uncounted(each) for each in short} == {uncounted(ordinary)}


async def test_head_and_unchanged_say_it_too(served: Served) -> None:
    await ask(served, 60, "bodiless")
    async with served.connection() as client:
        head = await client.get("/v1/things/a", "X-Key: bodiless", method="HEAD")
        unchanged = await client.get("/v1/things/a", "X-Key: bodiless", "If-None-Match: *")
    assert [(status(each), remaining(each)) for each in (head, unchanged)] == [(200, 339), (304, 338)]


async def test_other_ways_draw_on_the_same_bucket(served: Served) -> None:
    await ask(served, 398, "mixed")
    (missing,) = await ask(served, 1, "mixed", path="/v1/things/nothing-here")
    (unknown,) = await ask(served, 1, "mixed", path="/v1/nonsense")
    (refused,) = await ask(served, 1, "mixed", path="/v1/numbers/1")
    assert [status(each) for each in (missing, unknown, refused)] == [404, 404, 429]
    assert [remaining(each) for each in (missing, unknown)] == [1, 0]


async def test_each_caller_has_a_bucket_of_its_own(served: Served) -> None:
    await ask(served, 400, "greedy")
    assert [status(each) for each in await ask(served, 3, "modest")] == [200] * 3


async def test_pipelined_requests_are_counted_too(served: Served) -> None:
    async with served.connection() as client:
        client.send(*[request("/v1/things/a", "X-Key: piped")] * 410)
        answers = [await client.receive() for _ in range(410)]
    assert [status(each) for each in answers].count(200) == 400


async def test_many_connections_at_once_get_no_more_than_one(served: Served) -> None:
    answers = await asyncio.gather(*(ask(served, 50, "many") for _ in range(10)))
    assert [status(each) for some in answers for each in some].count(200) == 400


async def test_what_is_not_data_is_not_limited(served: Served) -> None:
    await ask(served, 400, "probe")
    (alive,) = await ask(served, 1, "probe", path="/livez")
    assert (status(alive), header(alive, "ratelimit")) == (200, None)


async def test_processes_share_the_buckets(world: World) -> None:
    async with limited(world, burst=40) as served, Served.of(world, proxy_headers=False) as other:
        await other.mark()
        answers = [*await ask(served, 30, "both"), *await ask(other, 30, "both")]
    granted = [status(each) for each in answers].count(200)
    # What a process holds for a caller that was busy is nobody else's: at most a quarter of the bucket.
    assert 30 <= granted <= 40


async def test_callers_are_told_apart_by_address_where_no_header_is_agreed_on(world: World) -> None:
    async with limited(world, burst=4, key_header=None) as served:
        spent = [status(each) for each in await ask(served, 8, "one", "X-Forwarded-For: 192.0.2.1")]
        assert spent[-1] == 429
        assert [status(each) for each in await ask(served, 1, "other", "X-Forwarded-For: 192.0.2.2")] == [429]


async def test_behind_a_proxy_of_ours_the_address_that_it_names_counts(world: World) -> None:
    async with limited(world, burst=4, key_header=None, trusted_proxies=1) as served:
        first = await ask(served, 6, "x", "X-Forwarded-For: 192.0.2.1")
        second = await ask(served, 4, "x", "X-Forwarded-For: 192.0.2.1, 192.0.2.2")
    assert [status(each) for each in (*first, *second)] == [200] * 4 + [429] * 2 + [200] * 4


def away(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Cache.call

    async def lost(cache: Cache, name: Any, *arguments: Any) -> Any:
        if name == "limit":
            raise Outage("redis", "away")
        return await call(cache, name, *arguments)

    monkeypatch.setattr(Cache, "call", lost)


async def test_without_redis_each_process_counts_for_itself(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    away(monkeypatch)
    answers = await ask(served, 410, "local")
    assert [status(each) for each in answers].count(200) == 400
    assert status(answers[-1]) == 429


async def test_closed_limits_let_nobody_in_without_redis(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with limited(world, burst=400, without_redis="closed") as served:
        away(monkeypatch)
        (refused,) = await ask(served, 1, "closed")
    assert (status(refused), header(refused, "retry-after")) == (503, "1")


async def test_the_description_of_the_interface_names_the_refusal(served: Served) -> None:
    responses = served.app.openapi()["paths"]["/v1/things/{key}"]["get"]["responses"]
    assert "Retry-After" in responses["429"]["headers"]
