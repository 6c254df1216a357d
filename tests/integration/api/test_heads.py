"""What comes before a request is one may be neither too large nor too slow, and is answered as all else is."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from neverstale.settings import Clients
from tests.worlds.api import World, catalog_of, settings_of
from tests.worlds.hits import Client, Served, body, request, status


@pytest.fixture
async def served(
    mongo_uri: str, redis_url: str, redis_prefix: str, database: str, request: pytest.FixtureRequest
) -> AsyncIterator[Served]:
    """Parametrized: with these limits."""
    settings = settings_of(mongo_uri, redis_url, redis_prefix)
    settings = settings.model_copy(update={"clients": getattr(request, "param", settings.clients)})
    async with World.of(settings, catalog_of(database)) as world, Served.of(world) as served:
        yield served


quick = pytest.mark.parametrize("served", [Clients(head_seconds=0.3)], indirect=True)


async def refusal(client: Client) -> tuple[int, str]:
    """The answer, and then the end of the connection."""
    answer = await client.receive()
    async with asyncio.timeout(10):
        assert await client.reader.read() == b""
    return status(answer), orjson.loads(body(answer))["type"].rpartition(":")[2]


@pytest.mark.parametrize(
    "nonsense",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /v1/things/a HTTP/1.1\r\nA: b\nC d\r\n\r\n",
        b"GET /v1/things/a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v1/things/\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/things/" + b"x" * 65_536 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_a_problem_and_the_end(served: Served, nonsense: bytes) -> None:
    async with served.connection() as client:
        client.send(nonsense)
        answered, kind = await refusal(client)
    assert (answered, kind) in ((400, "bad-request"), (431, "head-too-large"))


async def test_header_lines_without_end_are_cut_off(served: Served) -> None:
    line = b"GET /v1/things/a HTTP/1.1\r\n"
    async with served.connection() as client:
        client.send(line)
        await client.writer.drain()
        # Not one byte more: what nobody reads would reset the connection before the answer is seen.
        limit = Clients().head_bytes
        client.send((b"X-A: yyyyyyyyyyyyyy\r\n" * limit)[: limit - len(line) + 1])
        assert await refusal(client) == (431, "head-too-large")


@quick
async def test_a_head_that_comes_byte_by_byte_is_cut_off(served: Served) -> None:
    async with served.connection() as client:
        client.send(b"GET /v1/things/a HTTP/1.1\r\nX-Slow: ")
        assert await refusal(client) == (408, "head-too-slow")


@quick
async def test_a_connection_that_asks_nothing_is_closed(served: Served) -> None:
    async with served.connection() as client, asyncio.timeout(10):
        assert await client.reader.read() == b""


@quick
async def test_whoever_asks_in_time_may_pause_between_requests(served: Served) -> None:
    async with served.connection() as client, served.connection() as silent:
        first = await client.get("/livez")
        await silent.reader.read()  # closed, so the time is over for the other, too
        second = await client.get("/livez")
    assert (status(first), status(second)) == (200, 200)


async def test_a_head_in_two_parts_is_a_request(served: Served) -> None:
    async with served.connection() as client:
        text = request("/livez")
        client.send(text[:30])
        await client.writer.drain()
        client.send(text[30:])
        assert status(await client.receive()) == 200
