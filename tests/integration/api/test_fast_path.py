"""Hits answered before ASGI are what the routes would have answered, and a connection stays a connection."""

import asyncio
import gzip
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import brotli
import pytest
from httptools import parse_url

from neverstale.api.hits.fast_path import Hot
from neverstale.api.server.sampled import Sampling
from neverstale.api.state import STATE
from neverstale.api.web.demands import plain_of
from neverstale.api.web.pieces import LARGE_BYTES
from neverstale.role import telemetry
from neverstale.settings import Clients
from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, settings_of
from tests.worlds.hits import Served, body, header, request, status, unmoved

LONG = "a long text, " * 200


@pytest.fixture
async def world(mongo_uri: str, redis_url: str, redis_prefix: str, database: str) -> AsyncIterator[World]:
    settings = settings_of(mongo_uri, redis_url, redis_prefix)
    async with World.of(settings, catalog_of(database)) as world:
        await world.write("things", {"_id": "a", "n": 1}, {"_id": "long", "text": LONG}, {"_id": "x/y: z", "n": 2})
        await world.write("numbers", {"_id": 7, "name": "seven", "size": 7})
        yield world


@pytest.fixture
async def served(world: World) -> AsyncIterator[Served]:
    async with Served.of(world) as served:
        await served.mark()
        yield served


async def filled(served: Served, *paths: str) -> None:
    """Have them in Redis, absences too."""
    async with served.connection() as client:
        for path in paths:

            async def hit(path: str = path) -> bool:
                return b"hit" in (await client.get(path)).partition(b"\r\n\r\n")[0]

            await eventually(hit, f"{path} is in Redis")


async def ordinary(served: Served, path: str, *headers: str, method: str = "GET") -> bytes:
    """What FastAPI's routes answer over the same connection: a wish that forbids nothing leads there."""
    async with served.connection() as client:
        return await client.get(path, "Cache-Control: max-stale", *headers, method=method)


async def pure(served: Served, path: str, *headers: str, method: str = "GET") -> bytes:
    """What the pure-ASGI app answers, written as uvicorn would."""
    sent: list[Any] = []

    async def _nothing() -> dict[str, Any]:
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    given = [tuple(line.encode().split(b": ", 1)) for line in headers]
    url = parse_url(path.encode())
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": url.path,
        "query_string": url.query or b"",
        "headers": [(name.lower(), value) for name, value in given],
        "state": {STATE: served.state},
    }
    await served.app(scope, _nothing, send)
    start, end = sent
    lines = b"".join(b"%b: %b\r\n" % pair for pair in [(b"date", b""), *start["headers"]])
    content = b"" if method == "HEAD" else end["body"]
    phrase = {200: b"OK", 304: b"Not Modified", 404: b"Not Found"}[start["status"]]
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (start["status"], phrase, lines, content)


CASES = [
    ("/v1/things/a", (), "GET"),
    ("/v1/things/a", (), "HEAD"),
    ("/v1/things/a", ("If-None-Match: *",), "GET"),
    ("/v1/things/a", ('If-None-Match: "0123456789abcdef"',), "GET"),
    ("/v1/things/nothing", (), "GET"),
    ("/v1/things/nothing", (), "HEAD"),
    ("/v1/things/nothing", ("If-None-Match: *",), "GET"),
    ("/v1/things/x%2Fy:%20z", (), "GET"),
    ("/v1/numbers/7", (), "GET"),
    ("/v1/things/long", (), "GET"),
    ("/v1/things/long", ("Accept-Encoding: gzip, br",), "GET"),
    ("/v1/things/long", ("Accept-Encoding: gzip",), "HEAD"),
    ("/v1/things/long", ("Accept-Encoding: gzip", "If-None-Match: *"), "GET"),
    ("/v1/things/long", ("Accept-Encoding: gzip;q=0, br",), "GET"),
    ("/v1/things/a", ("Accept-Encoding: gzip",), "GET"),
]


@pytest.mark.parametrize(("path", "headers", "method"), CASES)
async def test_hits_in_redis_are_byte_identical_on_every_way(
    served: Served, path: str, headers: tuple[str, ...], method: str
) -> None:
    served.hot.l1.vouch = lambda watermark, group="": None  # type: ignore[method-assign]
    served.hot.l1.void()
    await filled(served, path)
    async with served.connection() as client:
        hot = [await client.get(path, *headers, method=method) for _ in range(2)]  # parsed, then by its block
    expected = unmoved(await ordinary(served, path, *headers, method=method))
    assert [unmoved(each) for each in hot] == [expected, expected]
    assert unmoved(await pure(served, path, *headers, method=method)) == expected


@pytest.mark.parametrize(("path", "headers", "method"), CASES)
async def test_hits_in_l1_differ_only_in_where_they_were_found(
    served: Served, path: str, headers: tuple[str, ...], method: str
) -> None:
    await served.kept(path, path)
    async with served.connection() as client:
        hot = [await client.get(path, *headers, method=method) for _ in range(2)]
    expected = unmoved(await ordinary(served, path, *headers, method=method)).replace(b"detail=l2", b"detail=l1")
    assert [unmoved(each) for each in hot] == [expected, expected]
    assert unmoved(await pure(served, path, *headers, method=method)) == expected


async def test_misses_are_byte_identical_to_the_routes(served: Served, world: World) -> None:
    await world.write("things", {"_id": "cold", "n": 1}, {"_id": "dloc", "n": 1})
    async with served.connection() as client:
        hot = await client.get("/v1/things/cold")
    other = await ordinary(served, "/v1/things/dloc")
    assert b"fwd=miss; detail=mongodb" in hot
    assert unmoved(hot).split(b"\r\n")[:-6] == unmoved(other).split(b"\r\n")[:-6]


@pytest.mark.parametrize(
    "path", ["/v1/numbers/x", "/v1/nothing/x", "/v1/things/a?x=1", "/v1/things/", "/v1/things/%zz"]
)
async def test_what_is_not_a_plain_key_takes_the_ordinary_way(served: Served, path: str) -> None:
    async with served.connection() as client:
        hot = await client.get(path)
    assert unmoved(hot).partition(b"\r\n\r\n")[0] == unmoved(await ordinary(served, path)).partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize(("coding", "unpacked"), [("gzip", gzip.decompress), ("br", brotli.decompress)])
async def test_a_compressed_body_is_the_body(served: Served, coding: str, unpacked: Callable[[bytes], bytes]) -> None:
    plain = await served.kept("/v1/things/long", "long")
    async with served.connection() as client:
        packed = await client.get("/v1/things/long", f"Accept-Encoding: {coding}")
    assert unpacked(body(packed)) == body(plain)
    assert header(packed, "content-encoding") == coding
    assert header(packed, "vary") == header(plain, "vary") == "accept, accept-encoding"
    assert header(packed, "etag") == f"W/{header(plain, 'etag')}"


async def test_the_etag_of_either_coding_is_recognised_under_the_other(served: Served) -> None:
    await served.kept("/v1/things/long", "long")
    async with served.connection() as client:
        packed = await client.get("/v1/things/long", "Accept-Encoding: gzip")
        again = await client.get("/v1/things/long", f"If-None-Match: {header(packed, 'etag')}")
    assert status(again) == 304


async def test_a_change_is_seen_at_once_when_it_was_announced(served: Served) -> None:
    await served.kept("/v1/things/a", "a")
    version = await served.change("things", "a", {"n": 2})

    async with served.connection() as client:

        async def seen() -> bool:
            return b'"n":2' in await client.get("/v1/things/a")

        await eventually(seen, "the announcement was heard")
        answer = await client.get("/v1/things/a")
    assert int(header(answer, "neverstale-version") or "", 16) >= version


async def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    await served.kept("/v1/things/a", "a")
    paths = [
        "/v1/things/a",
        "/v1/things/cold-1",
        "/v1/freshness",
        "/v1/things/a",
        "/v1/things/cold-2",
        "/v1/things/a",
    ]
    async with served.connection() as client:
        client.send(*(request(path) for path in paths))
        answers = [await client.receive() for _ in paths]
    assert [status(answer) for answer in answers] == [200, 404, 200, 200, 404, 200]
    assert b"resources" in body(answers[2])


async def test_a_request_may_come_in_pieces(served: Served) -> None:
    await served.kept("/v1/things/a", "a")
    whole = request("/v1/things/a")
    async with served.connection() as client:
        expected = unmoved(await client.get("/v1/things/a"))
        for cut in range(1, len(whole)):
            client.send(whole[:cut])
            await client.writer.drain()
            await asyncio.sleep(0)
            client.send(whole[cut:])
            assert unmoved(await client.receive()) == expected


async def test_a_request_after_a_body_that_looks_like_one_is_read_by_the_parser(served: Served) -> None:
    await served.kept("/v1/things/a", "a")
    inner = request("/v1/things/a")
    async with served.connection() as client:
        await client.get("/v1/things/a")  # its block is known now
        client.send(f"POST /v1/things/a HTTP/1.1\r\nHost: test\r\nContent-Length: {len(inner)}\r\n\r\n".encode())
        first = await client.receive()
        client.send(inner)
        client.send(request("/v1/freshness"))
        second = await client.receive()
    assert status(first) == 405
    assert b"resources" in body(second), "the body was taken for a request"


async def test_connection_close_is_said_and_done(served: Served) -> None:
    await served.kept("/v1/things/a", "a")
    async with served.connection() as client:
        answer = await client.get("/v1/things/a", "Connection: close")
        assert header(answer, "connection") == "close"
        assert await client.reader.read() == b""


async def test_http_1_0_is_answered_and_closed(served: Served) -> None:
    await served.kept("/v1/things/a", "a")
    async with served.connection() as client:
        client.send(b"GET /v1/things/a HTTP/1.0\r\n\r\n")
        assert status(await client.receive()) == 200
        assert await client.reader.read() == b""


async def test_a_slow_reader_holds_up_nothing_but_itself(served: Served, world: World) -> None:
    await world.write("things", {"_id": "big", "text": "x" * 100_000})
    await served.kept("/v1/things/big", "big")
    slow = socket.create_connection(("127.0.0.1", served.port))
    slow.setblocking(False)
    try:
        sent = 0
        while sent < 2000:
            try:
                slow.send(request("/v1/things/big"))
                sent += 1
            except BlockingIOError:
                break
            if sent % 50 == 0:
                await asyncio.sleep(0)
        async with served.connection() as client:
            assert status(await client.get("/v1/things/a")) in (200, 404)
        buffered = [
            connection.transport.get_write_buffer_size() for connection in served.server.server_state.connections
        ]
        assert max(buffered) < 1_000_000, f"{max(buffered):,} bytes wait for a client that does not read"
    finally:
        slow.close()


async def test_clients_that_go_away_leave_nothing_behind(served: Served) -> None:
    for number in range(100):
        connection = socket.create_connection(("127.0.0.1", served.port))
        connection.send(request(f"/v1/things/gone-{number}")[: 20 + number])
        connection.close()
    async with served.connection() as client:
        assert status(await client.get("/v1/things/a")) == 200

        async def only_ours() -> bool:
            return len(served.server.server_state.connections) == 1

        await eventually(only_ours, "the server has noticed")


async def test_a_shutdown_waits_for_answers_under_way(world: World) -> None:
    async with Served.of(world) as served:
        await served.mark()
        hits: Any = served.state.hits
        read_raw = hits.read_raw
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any) -> Any:
            asked.set()
            await go_on.wait()
            return await read_raw(*arguments)

        hits.read_raw = slow
        async with served.connection() as client, served.connection() as idle:
            client.send(request("/v1/things/a"))
            await asked.wait()
            served.server.should_exit = True
            assert await idle.reader.read() == b"", "an idle connection is closed"
            go_on.set()
            answer = await client.receive()
            assert status(answer) == 200
            assert header(answer, "connection") == "close"
            assert await client.reader.read() == b""


async def test_an_idle_connection_is_closed_after_the_keep_alive_time(world: World) -> None:
    settings = world.settings.model_copy(update={"clients": Clients(keep_alive_seconds=1)})
    async with Served.of(replace(world, settings=settings)) as served:
        await served.kept("/v1/things/a", "a")
        loop = asyncio.get_running_loop()
        async with served.connection() as client:
            for _ in range(4):
                await client.get("/v1/things/a")
                await asyncio.sleep(0.3)
            last = loop.time()
            assert b"detail=l1" in await client.get("/v1/things/a")
            assert await client.reader.read() == b""
            assert 0.9 < loop.time() - last < 3


async def test_with_an_access_log_every_request_takes_the_ordinary_way(world: World) -> None:
    async with Served.of(world, access_log=True) as served:
        await served.mark()
        async with served.connection() as client:
            assert status(await client.get("/v1/things/a")) == 200


async def test_hits_are_counted(served: Served) -> None:
    await served.kept("/v1/things/a", "a")
    before = served.server.server_state.total_requests
    async with served.connection() as client:
        for _ in range(5):
            await client.get("/v1/things/a")
    assert served.server.server_state.total_requests == before + 5


async def test_blocks_are_remembered_only_for_whole_plain_requests(served: Served) -> None:
    await served.kept("/v1/things/a", "a")
    served.hot.blocks.clear()
    async with served.connection() as client:
        client.send(request("/v1/things/a", "X: 1"), request("/v1/things/a", "X: 2"))
        await client.receive()
        await client.receive()
        assert served.hot.blocks == {}, "two requests in one piece"
        await client.get("/v1/things/a", "Cache-Control: max-age=5")
        assert served.hot.blocks == {}, "a demand"
        await client.get("/v1/things/a", "X: 3")
    assert list(served.hot.blocks) == [b"Host: test\r\nX: 3\r\n\r\n"]
    assert plain_of([(b"host", b"test"), (b"x", b"3")]) == next(iter(served.hot.blocks.values()))[1]


def requests_counted() -> dict[tuple[str, str], float]:
    found = {}
    for metric in telemetry.REQUESTS.collect():
        for sample in metric.samples:
            if sample.name.endswith("_total"):
                found[sample.labels["route"], sample.labels["status"]] = sample.value
    return found


async def test_each_request_is_counted_once_by_route_and_status_whichever_way_it_took(
    served: Served, world: World
) -> None:
    await world.write("things", {"_id": "huge", "text": "x" * (LARGE_BYTES + 1)})
    paths = ("/v1/things/a", "/v1/things/huge", "/v1/things/none")
    for path in paths:
        await filled(served, path)
    asked = [
        *((path, ()) for path in (*paths, *paths)),
        ("/v1/things/a", ("If-None-Match: *",)),
        ("/v1/things/a", ("Accept-Encoding: gzip",)),
        ("/v1/things/a", ("Cache-Control: max-stale",)),
        ("/v1/things/none", ("Cache-Control: no-cache",)),
        ("/v1/things?keys=a,none", ()),
        ("/v1/things?wrong=1", ()),
        ("/v1/nothing/a", ()),
        ("/livez", ()),
    ]
    for sampled in (False, True):
        hot = served.hot
        hot.report_hits()
        before, expected = requests_counted(), Counter[tuple[str, str]]()
        if sampled:
            sampling = Sampling(hot)
            hot.look, hot.start = sampling.look, sampling.start
        async with served.connection() as client:
            for path, lines in asked:
                response = await client.get(path, *lines)
                expected[route(path), str(status(response))] += 1
        await settled(hot)
        after = requests_counted()
        grown = {what: count - before.get(what, 0) for what, count in after.items()}
        assert {what: count for what, count in grown.items() if count} == expected


def route(path: str) -> str:
    if path.startswith("/v1/things/"):
        return "/v1/things/{key}"
    return "/v1/things" if path.startswith("/v1/things?") else "other"


async def settled(hot: Hot) -> None:
    """Until what goes out in pieces is counted, too."""
    for _ in range(3):
        await asyncio.sleep(0)
    hot.report_hits()
