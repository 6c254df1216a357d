"""What a client may make us hold, and for how long: every kind of byte has a limit, every state a deadline."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from neverstale.api.server.deadlines import TAKEN_BYTES
from neverstale.settings import Clients
from tests.support.connected import Connected, answering

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: other\r\nContent-Length: 100\r\n\r\n"
SMALL = Clients(head_bytes=2000, head_lines=20, body_bytes=1000)
QUICK = Clients(head_seconds=0.1, keep_alive_seconds=0.1, stall_seconds=0.1)


async def until_ended(connected: Connected) -> None:
    async with asyncio.timeout(5):
        while not (connected.transport.closed or connected.transport.ended):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def answers(connected: Connected) -> list[int]:
    return [int(part[:3]) for part in connected.transport.buffer.split(b"HTTP/1.1 ")[1:]]


# --- bytes


@pytest.mark.parametrize(
    ("data", "answered"),
    [
        pytest.param([b"GET / HTTP/1.1\r\n", b"A: b\r\n" * 500], [431], id="header lines without end"),
        pytest.param([b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 30 + b"\r\n"], [431], id="too many lines"),
        pytest.param([b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 3000 + b"\r\n\r\n"], [431], id="a long line"),
        pytest.param([b"GET /" + b"b" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"], [431], id="a long target"),
        pytest.param([b"GET /", *[b"b" * 500] * 5], [431], id="a target without end"),
        pytest.param([b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n"], [413], id="an announced body"),
        pytest.param([CHUNKED, b"1F4\r\n", b"x" * 500, b"\r\n1F4\r\n", b"x" * 500], [200], id="a body without end"),
        pytest.param([CHUNKED, *[b"1\r\nx\r\n"] * 500], [200], id="small chunks"),
        pytest.param([CHUNKED, b"1;", *[b"e" * 500] * 5], [200], id="the extension of a chunk"),
        pytest.param([CHUNKED, b"0\r\n", *[b"a:b\r\n" * 10] * 5], [200], id="many trailers"),
        pytest.param([CHUNKED, b"0\r\n", *[b"a: " + b"b" * 500 + b"\r\n"] * 5], [200], id="long trailers"),
        pytest.param([CHUNKED, b"0\r\na: ", *[b"b" * 500] * 5], [200], id="one trailer without end"),
        pytest.param([UPGRADE.replace(b"100", b"5000")], [413], id="a body behind an upgrade"),
    ],
)
async def test_more_than_the_limit_ends_the_connection(data: Sequence[bytes], answered: list[int]) -> None:
    connected = Connected(answering(), clients=SMALL)
    for part in data:
        connected.protocol.data_received(part)
        await connected.run()
    await until_ended(connected)
    assert answers(connected) == answered
    for _ in range(100):  # and whatever comes then is kept nowhere
        connected.protocol.data_received(b"x" * 20_000)
    assert connected.transport.closed


async def test_refusals_say_what_is_too_large() -> None:
    connected = Connected(answering(), clients=SMALL)
    answer = await connected.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert orjson.loads(body)["type"] == "urn:neverstale:body-too-large"


@pytest.mark.parametrize("nonsense", [b"zz\r\n", b"5\r\nhello!!", b"0\r\nA b\r\n\r\n"])
async def test_nonsense_in_a_body_is_no_second_answer(nonsense: bytes) -> None:
    connected = Connected(answering(), clients=SMALL)
    await connected.exchange(CHUNKED, nonsense)
    await until_ended(connected)
    assert answers(connected) == [200]


async def test_trailers_within_the_limit_are_thrown_away_and_the_next_request_is_answered() -> None:
    connected = Connected(answering(), clients=SMALL)
    assert answers(connected) == []
    await connected.exchange(CHUNKED + b"5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n", GET)
    assert answers(connected) == [200, 200]
    assert all(name != b"a" for name, _ in connected.protocol.headers)


async def test_requests_that_come_together_are_parsed_one_by_one_and_all_answered() -> None:
    under_way = most = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way + len(connected.protocol.pipeline))
        await asyncio.sleep(0)
        under_way -= 1
        await answering()(scope, receive, send)

    connected = Connected(app)
    connected.protocol.data_received(GET * 500)
    assert connected.transport.read_paused
    await connected.run()
    assert answers(connected) == [200] * 500
    assert most == 1
    assert not connected.transport.read_paused


async def test_a_request_in_pieces_behind_one_that_is_being_answered_waits() -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await answering()(scope, receive, send)

    connected = Connected(app)
    for part in (GET, GET[:10], GET[10:] + GET):
        connected.protocol.data_received(part)
    assert connected.transport.read_paused
    go_on.set()
    await connected.run()
    assert answers(connected) == [200] * 3


# --- seconds


@pytest.mark.parametrize(
    ("data", "answered"),
    [
        pytest.param([], [], id="no request"),
        pytest.param([b"\r\n"], [], id="no request, but a line"),
        pytest.param([b"GET / HT"], [408], id="half a request line"),
        pytest.param([GET[:-2]], [408], id="half a head"),
        pytest.param([GET], [200], id="idle"),
        pytest.param([GET, b"\r\n"], [200], id="idle, but a line"),
        pytest.param([GET, b"GET / "], [200, 408], id="idle, then half a head"),
        pytest.param([GET + GET], [200, 200], id="two at once"),
        pytest.param([POST, b"x"], [200], id="a byte of a body"),
        pytest.param([POST], [200], id="no body"),
        pytest.param([CHUNKED, b"5\r\nhe"], [200], id="half a chunk"),
        pytest.param([CHUNKED, b"0\r\na: b"], [200], id="half a trailer"),
        pytest.param([UPGRADE, b"x"], [200], id="half a body behind an upgrade"),
    ],
)
async def test_every_state_ends_however_often_a_byte_comes(data: Sequence[bytes], answered: list[int]) -> None:
    connected = Connected(answering(), clients=QUICK)
    for part in data:
        connected.protocol.data_received(part)
        await connected.run()
    trickle = b"\r\n" if not data or data[-1] in (GET, GET + GET, b"\r\n") else b""
    async with asyncio.timeout(5):
        while not (connected.transport.closed or connected.transport.ended):
            await asyncio.sleep(0.02)
            if trickle:
                connected.protocol.data_received(trickle)
    assert answers(connected) == answered


async def test_an_answer_that_is_under_way_is_waited_for() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)
        await answering()(scope, receive, send)

    connected = Connected(app, clients=QUICK)
    assert (await connected.exchange(GET)).startswith(b"HTTP/1.1 200")
    assert not connected.transport.closed


@pytest.mark.parametrize("taken", [0, 1, TAKEN_BYTES // 2])
async def test_a_client_that_takes_too_little_of_its_answer_is_cut_off(taken: int) -> None:
    connected = Connected(answering(), clients=QUICK)
    await connected.exchange(GET)
    connected.transport.unsent = 100 * TAKEN_BYTES
    connected.protocol.pause_writing()
    connected.transport.unsent -= taken
    await until_ended(connected)


@pytest.mark.parametrize("closing", [False, True])
async def test_a_client_that_takes_enough_is_not_cut_off(closing: bool) -> None:
    connected = Connected(answering(), clients=QUICK)
    await connected.exchange(GET)
    aborted: list[bool] = []
    connected.transport.abort = lambda: aborted.append(True)  # type: ignore[method-assign]
    connected.transport.unsent = 100 * TAKEN_BYTES
    connected.protocol.pause_writing()
    connected.transport.closed = closing
    for _ in range(40):
        connected.transport.unsent -= TAKEN_BYTES
        await asyncio.sleep(0.02)
    assert not aborted
    async with asyncio.timeout(5):  # and then it takes no more
        while not aborted:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
