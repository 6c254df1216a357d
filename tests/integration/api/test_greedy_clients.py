"""Clients that ask for much, read nothing, or send without end: others are served, and memory is not theirs.

The API is a process of its own, whose memory and whose turns of the event loop can be seen.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from neverstale.catalog import Catalog
from neverstale.ops.stack.role import RunningRole
from tests.support.api_process import api_process
from tests.worlds.api import World, settings_of
from tests.worlds.hits import Client, Served, body, header, hex_of, request, status

MEGABYTE = 1 << 20
LARGE = 40
"""Documents of a megabyte."""
MOST_GROWTH = 256 * MEGABYTE
TURN_SECONDS = 0.02
NOISE_SECONDS = 0.08
"""A busy machine lets a process wait for as long."""


def catalog_of(database: str) -> Catalog:
    big = {"key_type": "string", "lists": {"all": {"by": ["kind"], "page_size": 12}}}
    return Catalog.model_validate({"database": database, "resources": {"big": big, "things": {"key_type": "string"}}})


@pytest.fixture
async def world(mongo_uri: str, redis_url: str, redis_prefix: str, database: str) -> AsyncIterator[World]:
    settings = settings_of(mongo_uri, redis_url, redis_prefix)
    async with World.of(settings, catalog_of(database)) as world:
        big = world.mongo[database]["big"]
        text = "x" * (MEGABYTE - 100)
        await big.insert_many([{"_id": f"mb{number}", "kind": "a", "text": text} for number in range(LARGE)])
        await big.insert_one({"_id": "more", "kind": "b", "text": text + "y" * 200})
        await world.write("things", {"_id": "a", "n": 1})
        yield world


@pytest.fixture
async def api(world: World, tmp_path: Path, forked_roles: None) -> AsyncIterator[RunningRole]:
    quick = {"NEVERSTALE_CLIENTS__STALL_SECONDS": "2", "NEVERSTALE_CLIENTS__KEEP_ALIVE_SECONDS": "2"}
    async with api_process(world, tmp_path, **quick) as api:
        yield api


@contextlib.asynccontextmanager
async def connected(api: RunningRole, *, buffer: int | None = None) -> AsyncIterator[Client]:
    """`buffer`: no more is taken than this many bytes, unless it is read."""
    sock = socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", api.ports[0]))
    reader, writer = await asyncio.open_connection(sock=sock, limit=buffer or MEGABYTE)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


def many(*keys: str) -> bytes:
    return request(f"/v1/big?keys={','.join(keys)}")


ALL = [f"mb{number}" for number in range(LARGE)]


async def test_too_many_large_documents_at_once_are_a_413_that_names_keys(api: RunningRole) -> None:
    async with connected(api) as client:
        client.send(many(*ALL))
        refused = await client.receive()
        assert status(refused) == 413
        assert b'"parameter":"keys"' in refused and b"answer-too-large" in refused
        client.send(many(*ALL[:8]))
        assert len(body(await client.receive())) > 8 * (MEGABYTE - 100)


async def test_hits_of_others_do_not_wait_for_200_large_documents(api: RunningRole) -> None:
    waited: list[float] = []
    done = False

    async def other() -> None:
        async with connected(api) as client:
            while not done:
                began = time.perf_counter()
                await client.get("/v1/things/a")
                waited.append(time.perf_counter() - began)
                await asyncio.sleep(0.003)

    async with asyncio.TaskGroup() as group, connected(api) as greedy:
        group.create_task(other())
        for again in range(3):  # a busy machine lets anybody wait once
            waited.clear()
            greedy.send(many(*["mb0"] * 200))
            answer = await greedy.reader.readuntil(b"\r\n\r\n")
            left = int(header(answer, "content-length") or 0)
            assert left > 200 * (MEGABYTE - 100)
            while left:
                left -= len(await greedy.reader.read(MEGABYTE))
            if max(waited) <= TURN_SECONDS + NOISE_SECONDS:
                break
            assert again < 2, max(waited)
        done = True
    assert len(waited) > 3


async def test_a_document_that_redis_does_not_take_is_answered_from_memory_until_it_changes(world: World) -> None:
    async with Served.of(world) as served:
        first = await served.kept("/v1/big/more", "more", "big")
        assert len(body(first)) > MEGABYTE
        version = await served.change("big", "more", {"kind": "b", "text": "z" * 2 * MEGABYTE})
        async with served.connection() as client:
            await served.vouched()
            changed = await client.get("/v1/big/more")
            assert b"zzz" in changed
            assert (header(changed, "neverstale-version") or "") >= hex_of(version)


# --- all at once


async def _trailers(api: RunningRole) -> None:
    async with connected(api) as client:
        client.send(b"POST /v1/things/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        for _ in range(200):
            client.send(b"a:b\r\n" * 13_107)
            await client.writer.drain()


async def _header_lines(api: RunningRole) -> None:
    async with connected(api) as client:
        client.send(b"GET / HTTP/1.1\r\n")
        for _ in range(200):
            client.send(b"a:b\r\n" * 13_107)
            await client.writer.drain()


async def _body(api: RunningRole) -> None:
    async with connected(api) as client:
        client.send(b"POST /v1/things/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            client.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await client.writer.drain()


async def _pipelines(api: RunningRole) -> None:
    async with connected(api, buffer=4096) as client:
        for _ in range(40):
            client.send(request("/v1/things/a", "Cache-Control: max-age=60") * 4000)
            await client.writer.drain()


def _reads_nothing(*asked: bytes) -> Callable[[RunningRole], Awaitable[None]]:
    async def attack(api: RunningRole) -> None:
        async with connected(api, buffer=4096) as client:
            client.send(b"".join(asked))
            await client.reader.readuntil(b"\r\n")
            await client.writer.wait_closed()

    return attack


ATTACKS = [
    _trailers,
    _header_lines,
    _body,
    _pipelines,
    _reads_nothing(many(*["mb0"] * 200)),
    _reads_nothing(many(*ALL[:30])),
    _reads_nothing(many(*ALL)),
    _reads_nothing(request("/v1/big/-/lists/all?kind=a")),
    _reads_nothing(request("/v1/big/-/lists/all?kind=a", "Cache-Control: no-cache")),
    _reads_nothing(request("/v1/big/-/export")),
    *(_reads_nothing(request(f"/v1/big/mb{number}", "Accept-Encoding: gzip")) for number in range(8)),
]


async def test_a_worker_stays_small_under_all_attacks_at_once(api: RunningRole) -> None:
    process = psutil.Process(api.pid)
    async with connected(api) as client:
        await client.get("/v1/things/a")
    base, most, served = process.memory_info().rss, 0, 0

    async def one(attack: Callable[[RunningRole], Awaitable[None]]) -> None:
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(8):
                await attack(api)

    async with asyncio.timeout(60):
        attacks = asyncio.gather(*(one(attack) for attack in ATTACKS * 3))
        while not attacks.done():
            most = max(most, process.memory_info().rss)
            async with connected(api) as client:
                served += status(await client.get("/v1/things/a")) == 200
            await asyncio.sleep(0.05)
        await attacks
    assert most - base < MOST_GROWTH, f"{(most - base) >> 20} MB"
    assert served > 5
