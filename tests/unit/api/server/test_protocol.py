"""The protocol class does everything that uvicorn's does: its tests, restated for ours, on a fake transport."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from neverstale.api.web.headers import SharedHeaders
from neverstale.settings import Clients
from tests.support.connected import Connected, Reading, answering, echo

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
START_POST = b"POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 18\r\n\r\n"
FINISH_POST = b'{"hello": "world"}'
POST = START_POST + FINISH_POST
CHUNKED = b"POST / HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n"


@pytest.mark.parametrize("path", ["/", "/?foo", "/?foo=bar", "/one%2Ftwo", "//"])
async def test_a_get_is_answered(path: str) -> None:
    connected = Connected(answering())
    answer = await connected.exchange(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"Hello, world")


async def test_head_has_no_body() -> None:
    answer = await Connected(answering()).exchange(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"content-length: 12" in answer


@pytest.mark.parametrize(
    "data", [[POST], [START_POST, FINISH_POST], [START_POST, FINISH_POST[:7], FINISH_POST[7:]], [CHUNKED]]
)
@pytest.mark.parametrize("method", [b"POST", b"QUERY", b"PUT", b"GET"])
async def test_only_what_may_name_keys_has_its_body_read_and_what_follows_is_a_request(
    data: list[bytes], method: bytes
) -> None:
    connected = Connected(echo)
    read = {True: b"hello", False: FINISH_POST}[data == [CHUNKED]] if method in (b"POST", b"QUERY") else b""
    answer = await connected.exchange(*(part.replace(b"POST", method) for part in data))
    assert answer.endswith(b"\r\n\r\nBody: " + read)
    connected.transport.clear()
    assert (await connected.exchange(GET)).startswith(b"HTTP/1.1 200")


async def test_a_connection_is_kept_alive() -> None:
    connected = Connected(answering())
    assert b"HTTP/1.1 200" in await connected.exchange(GET)
    assert not connected.transport.closed


async def test_keep_alive_ends_after_its_time() -> None:
    connected = Connected(answering(), clients=Clients(keep_alive_seconds=0))
    await connected.exchange(GET)
    async with asyncio.timeout(5):
        while not connected.transport.closed:  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_connection_close_closes() -> None:
    connected = Connected(answering())
    assert b"connection: close" in await connected.exchange(GET_CLOSE)
    assert connected.transport.closed


async def test_http_1_0_closes() -> None:
    connected = Connected(answering())
    await connected.exchange(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    assert connected.transport.closed


async def test_pipelined_requests_are_answered_one_after_the_other() -> None:
    connected = Connected(answering())
    connected.protocol.data_received(GET * 3)
    assert connected.transport.read_paused
    await connected.run()
    assert connected.transport.buffer.count(b"HTTP/1.1 200") == 3
    assert not connected.transport.read_paused


async def test_requests_after_a_close_are_not_answered() -> None:
    connected = Connected(answering())
    answer = await connected.exchange(GET_CLOSE + GET)
    assert answer.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/x\r\n\r\n", b"\x16\x03\x01 no HTTP at all\r\n\r\n", b"GET /\0 HTTP/1.1\r\n\r\n"]
)
async def test_what_is_not_http_is_answered_with_400_and_closed(data: bytes) -> None:
    connected = Connected(answering())
    assert (await connected.exchange(data)).startswith(b"HTTP/1.1 400 Bad Request")
    assert connected.transport.ended


async def test_a_chunked_answer_is_chunked() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    assert (await Connected(app).exchange(GET)).endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


async def _raises(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("wrong")


async def _says_nothing(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize("app", [_raises, _says_nothing])
async def test_an_app_that_fails_is_answered_with_500(
    app: Callable[[Any, Any, Any], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    connected = Connected(app)
    assert (await connected.exchange(GET)).startswith(b"HTTP/1.1 500")
    assert connected.transport.closed


@pytest.mark.parametrize("content_length", [b"8", b"2"])
async def test_an_answer_of_the_wrong_length_closes(content_length: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", content_length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"four"})

    connected = Connected(app)
    await connected.exchange(GET)
    assert connected.transport.closed


async def test_a_client_that_goes_away_is_a_disconnect() -> None:
    got: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not got or got[-1] != "http.disconnect":
            got.append((await receive())["type"])

    connected = Connected(app)
    connected.protocol.data_received(GET)
    connected.protocol.eof_received()
    connected.protocol.connection_lost(None)
    await connected.run()
    assert got == ["http.disconnect"]


@pytest.mark.parametrize("how", [None, ConnectionResetError()], ids=["closed", "reset"])
@pytest.mark.parametrize("hot", [False, True])
async def test_a_connection_that_has_ended_is_freed_at_once(hot: bool, how: Exception | None) -> None:
    """Clients that open one for each request would leave them all to the collector, which comes rarely."""
    reading = Reading()
    connected = Connected(answering(), hot=reading if hot else None)
    await connected.exchange(GET)
    while reading.started:
        reading.started.pop().send(200, b"etag: ...\r\n\r\n", cast("SharedHeaders", reading))
    assert connected.transport.buffer.startswith(b"HTTP/1.1 200 OK")
    ended = weakref.ref(connected.protocol)
    gc.disable()
    try:
        connected.protocol.connection_lost(how)
        del connected
        await asyncio.sleep(0)
        assert ended() is None
    finally:
        gc.enable()


async def test_it_is_freed_too_if_the_answer_comes_after_its_end() -> None:
    reading = Reading()
    connected = Connected(answering(), hot=reading)
    await connected.exchange(GET)
    ended = weakref.ref(connected.protocol)
    gc.disable()
    try:
        connected.protocol.connection_lost(None)
        del connected
        reading.started.pop().send(200, b"etag: ...\r\n\r\n", cast("SharedHeaders", reading))
        await asyncio.sleep(0)
        assert ended() is None
    finally:
        gc.enable()


async def test_a_shutdown_closes_an_idle_connection() -> None:
    connected = Connected(answering())
    await connected.exchange(GET)
    connected.protocol.shutdown()
    assert connected.transport.closed


async def test_a_shutdown_before_any_request_closes() -> None:
    connected = Connected(answering())
    connected.protocol.shutdown()
    assert connected.transport.closed


async def test_a_shutdown_lets_the_answer_under_way_end() -> None:
    connected = Connected(answering())
    connected.protocol.data_received(GET)
    connected.protocol.shutdown()
    await connected.run()
    assert b"connection: close" in connected.transport.buffer
    assert connected.transport.closed


async def test_expect_continue_is_granted_when_the_body_is_wanted() -> None:
    expect = START_POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    connected = Connected(echo)
    connected.protocol.data_received(expect)
    await asyncio.sleep(0.01)
    assert connected.transport.buffer == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await connected.exchange(FINISH_POST)).endswith(b"\r\n\r\nBody: " + FINISH_POST)


async def test_too_many_connections_are_answered_with_503(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    assert b"HTTP/1.1 503" in await Connected(answering(), limit_concurrency=1).exchange(GET)


async def test_an_unknown_upgrade_is_an_ordinary_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")
    assert b"HTTP/1.1 200" in await Connected(answering(), ws="none").exchange(UPGRADE)


async def test_default_headers_come_first() -> None:
    connected = Connected(answering())
    connected.state.default_headers = [(b"date", b"now")]
    assert (await connected.exchange(GET)).startswith(b"HTTP/1.1 200 OK\r\ndate: now\r\n")


@pytest.mark.parametrize("name", ["Header\x7f", "Header\n", "He ader"])
async def test_header_names_that_would_split_a_response_are_refused(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "uvicorn.error")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(name.encode(), b"x")]})

    assert name.encode() not in await Connected(app).exchange(GET)


async def test_the_scope_says_what_was_sent() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await answering()(scope, receive, send)

    await Connected(app, root_path="/app").exchange(b"GET /one%2Ftwo?x=%20 HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n")
    assert (seen["path"], seen["raw_path"]) == ("/app/one/two", b"/app/one%2Ftwo")
    assert (seen["query_string"], seen["http_version"], seen["scheme"]) == (b"x=%20", "1.1", "http")
    assert seen["headers"] == [(b"host", b"x"), (b"a", b"b")]
    assert (seen["client"], seen["server"]) == (("127.0.0.1", 8001), ("127.0.0.1", 8000))
