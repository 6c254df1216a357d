"""What is no request is refused after all that was asked before it, and no request is dropped without an answer."""

import asyncio
import logging
import re
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neverstale.api.reads.answer import Answer
from neverstale.api.web.headers import SharedHeaders
from neverstale.api.web.problems import bad_parameter
from tests.support.connected import Connected, Reading, answering, echo

HEAD = b"GET /things HTTP/1.1\r\nHost: a\r\n"
GET = HEAD + b"\r\n"


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def statuses(text: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", text)]


def refusal(connected: Connected) -> dict[str, Any]:
    """The last answer, which says that it is the last."""
    head, _, body = re.split(rb"HTTP/1\.1 (?=[0-9]{3} )", connected.transport.buffer)[-1].partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"application/problem+json" in head
    assert connected.transport.ended
    found: dict[str, Any] = orjson.loads(body)
    assert found["status"] == int(head[:3])
    return found


def request(*lines: str, line: str = "GET /things HTTP/1.1") -> bytes:
    return "\r\n".join([line, *lines, "", ""]).encode("latin-1")


REFUSED = [
    (request(), 400, "Host"),
    (request("Host: a", "Host: a"), 400, "Host"),
    (request("Host: a", "Host: b"), 400, "Host"),
    (request("Host: a", "host: b", line="GET / HTTP/1.0"), 400, "Host"),
    (request("Host: a b"), 400, "Host"),
    (request("Host: a/b"), 400, "Host"),
    (request("Host: http://a"), 400, "Host"),
    (request("Host: a:b"), 400, "Host"),
    (request("Host: a@b"), 400, "Host"),
    (request("Host: a, b"), 400, "Host"),
    (request("Host: [::1"), 400, "Host"),
    (request("Host: ::1"), 400, "Host"),
    (request("Host: %zz"), 400, "Host"),
    (request("Host: \xe9"), 400, "Host"),
    (request("Host: a", line="GET / HTTP/2.0"), 505, None),
    (request("Host: a", line="GET / HTTP/1.2"), 505, None),
    (request("Host: a", line="GET / HTTP/0.9"), 505, None),
    (request("Host: a", line="GET / HTTP/3.0"), 505, None),
    (request(line="GET / HTTP/2.0"), 505, None),
    (request(line="GET /"), 505, None),
    (request("Host: a", line="GET / HTTP/x"), 400, None),
    (request("Host: a", line="GET / HTTP/1.10"), 400, None),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, None),
    (request("Host: a", "Transfer-Encoding: xchunked"), 501, None),
    (request("Host: a", "Transfer-Encoding: gzip, chunked"), 501, None),
    (request("Host: a", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked"), 501, None),
    (request("Host: a", "Transfer-Encoding: identity"), 501, None),
    (request("Host: a", "Transfer-Encoding:"), 400, None),
    (request("Host: a", "Transfer-Encoding: chunked, chunked"), 400, None),
    (request("Host: a", "Transfer-Encoding: chunked", line="POST / HTTP/1.0"), 400, None),
    (request("Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"), 400, None),
    (request("Host: a", "Transfer-Encoding: chunked", "Content-Length: 1"), 400, None),
    (request("Host: a", "Content-Length: 1", "Content-Length: 1"), 400, None),
    (request("Host: a", "Content-Length: -1"), 400, None),
    (request("Host: a", "Content-Length: 1, 1"), 400, None),
    (request("Host: a", line="CONNECT a:80 HTTP/1.1"), 405, None),
    (request("Host: a", line="GET http:// HTTP/1.1"), 400, None),
    (request("Host: a", line="GET http://a:99999/ HTTP/1.1"), 400, None),
    (request("Host: a", line="GET things HTTP/1.1"), 400, None),
    (request("Host: a", line="GET /thi ngs HTTP/1.1"), 400, None),
    (request("Host: a", "A: b", " c: d"), 400, None),
    (request("Host : a"), 400, None),
    (request("Host: a", "A: \0"), 400, None),
]


@pytest.mark.parametrize("before", [b"", GET, GET * 3], ids=["alone", "after one", "after three"])
@pytest.mark.parametrize(("raw", "status", "parameter"), REFUSED)
async def test_what_is_no_request_is_a_problem_and_the_end(
    raw: bytes, status: int, parameter: str | None, before: bytes
) -> None:
    connected = Connected(answering())
    text = await connected.exchange(before + raw + GET)
    assert statuses(text) == [200] * before.count(b"GET") + [status]
    assert refusal(connected).get("parameter") == parameter


@pytest.mark.parametrize(
    "lines",
    [
        ("Host: a",),
        ("Host:",),
        ("Host: example.org:8000",),
        ("Host: 192.0.2.1:80",),
        ("Host: [2001:db8::1]:80",),
        ("Host: a_b.c-d~e",),
        ("Host: %41",),
        ("Host: a:",),
        ("hOsT: a",),
        ("Host: a", "Transfer-Encoding: Chunked", "", "0"),
        ("Host: a", "Content-Length: 0"),
    ],
)
async def test_every_host_that_may_be_one_is_answered(lines: tuple[str, ...]) -> None:
    connected = Connected(answering())
    assert statuses(await connected.exchange(request(*lines) + GET)) == [200, 200]
    assert not connected.transport.closed


async def test_http_1_0_needs_no_host() -> None:
    assert statuses(await Connected(answering()).exchange(request(line="GET / HTTP/1.0"))) == [200]


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://a", "/", b""),
        ("http://a?x=1", "/", b"x=1"),
        ("http://a/", "/", b""),
        ("http://b:80/things?x", "/things", b"x"),
        ("https://[::1]:80", "/", b""),
        ("/", "/", b""),
    ],
)
async def test_a_whole_url_is_a_path(target: str, path: str, query: bytes) -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await answering()(scope, receive, send)

    text = await Connected(app).exchange(request("Host: a", line=f"GET {target} HTTP/1.1"))
    assert statuses(text) == [200]
    assert (seen["path"], seen["raw_path"], seen["query_string"]) == (path, path.encode(), query)


async def test_a_refused_head_has_no_body() -> None:
    connected = Connected(answering())
    text = await connected.exchange(request(line="HEAD /things HTTP/1.1"))
    assert text.startswith(b"HTTP/1.1 400 ")
    assert text.endswith(b"\r\n\r\n")


UPGRADES = ["h2c", "TLS/1.0", "h2c, websocket", "x" * 1000]


@pytest.mark.parametrize("cut", [0, 1, 7, 60], ids=lambda cut: f"cut {cut}")
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("A: b", b""),
        ("Content-Length: 0", b""),
        ("Content-Length: 18", b'{"hello": "world"}'),
        ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_upgrade_is_ignored_and_what_follows_is_answered(
    upgrade: str, framing: str, body: bytes, cut: int, method: str
) -> None:
    """A body that the parser would skip is read, too: else it would be taken for the next request."""
    lines = ("Host: a", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AA", framing)
    first = request(*lines, line=f"{method} / HTTP/1.1")
    connected = Connected(echo)
    text = await connected.exchange(first + body[:cut], body[cut:] + GET + GET)
    assert statuses(text) == [200, 200, 200]
    read = b"hello" if body[:1] == b"5" else body
    assert text.split(b"HTTP/1.1 200 OK")[1].endswith(b"Body: " + (read if method == "POST" else b""))
    assert not connected.transport.closed


async def test_an_answer_that_closes_is_not_followed_by_a_refusal() -> None:
    connected = Connected(answering())
    text = await connected.exchange(HEAD + b"Connection: close\r\n\r\nInvalid\r\n\r\n")
    assert statuses(text) == [200]
    assert b"connection: close" in text


async def test_a_refusal_waits_for_an_answer_that_is_still_being_read() -> None:
    reading = Reading()
    connected = Connected(answering(), hot=reading)
    text = await connected.exchange(GET + b"Invalid\r\n\r\n", GET)
    assert text == b""
    reading.started.pop().send(200, b"etag: ...\r\n\r\n", cast("SharedHeaders", reading))
    await asyncio.sleep(0)
    assert statuses(connected.transport.buffer) == [200, 400]
    assert refusal(connected)["type"] == "urn:neverstale:bad-request"


async def test_what_headers_mean_is_not_remembered_for_others() -> None:
    reading = Reading()
    connected = Connected(answering(), hot=reading)
    demanding = HEAD + b"Cache-Control: no-cache\r\n\r\n"
    await connected.exchange(GET)
    connected.protocol.data_received(demanding)
    reading.started.pop().send(200, b"etag: ...\r\n\r\n", cast("SharedHeaders", reading))
    await asyncio.sleep(0)  # what waited is read in the next turn
    await connected.run()
    assert (await connected.exchange(demanding)).endswith(b"Hello, world")
    await connected.exchange(GET)
    assert len(reading.started) == 1


async def test_trailers_are_no_headers_of_a_later_request() -> None:
    chunked = request("Host: a", "Transfer-Encoding: chunked", line="POST / HTTP/1.1")
    connected = Connected(echo)
    await connected.exchange(chunked + b"0\r\nHost: b\r\n\r\n")
    text = await connected.exchange(request("Host: a", "Transfer-Encoding: chunked", "Host: b"))
    assert statuses(text) == [200, 400]


PIECES = st.sampled_from(
    [
        GET,
        HEAD,
        b"\r\n",
        b"GET /things HTTP/1.1\r\n",
        b"POST http://a HTTP/1.1\r\n",
        b"HEAD * HTTP/1.0\r\n",
        b"CONNECT a:80 HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Host: b c\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Connection: close\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"hello",
        b"\0\xff",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=6).map(b"".join), max_size=4), st.booleans())
def test_no_bytes_are_a_mistake_and_whatever_closes_says_so(packets: list[bytes], hot: bool) -> None:
    async def exchange() -> None:
        reading = Reading()
        connected = Connected(echo, hot=reading if hot else None)
        for packet in packets:
            if not connected.transport.closed:
                connected.protocol.data_received(packet)
            while reading.started:
                reading.started.pop().send(200, b"etag: ...\r\n\r\n", cast("SharedHeaders", reading))
        await asyncio.sleep(0)
        if connected.transport.closed:
            last = re.split(rb"HTTP/1\.1 (?=[0-9]{3} )", connected.transport.buffer)[-1]
            assert b"connection: close" in last.partition(b"\r\n\r\n")[0]
        else:
            connected.protocol.connection_lost(None)
        await connected.run()
        assert 500 not in statuses(connected.transport.buffer)

    asyncio.run(exchange())


# --- what fails in here


class Failing(Reading):
    """A fast path with a mistake in it."""

    def __init__(self, *, where: str) -> None:
        super().__init__()
        self._where = where

    def find(self, line: bytes) -> tuple[Any, Any]:
        if self._where == "find":
            raise ArithmeticError(line)
        return super().find(line)

    def start(self, cycle: Any) -> None:
        if self._where == "start":
            raise ArithmeticError(cycle)
        super().start(cycle)


@pytest.mark.parametrize("known", [False, True], ids=["parsed", "by its block"])
@pytest.mark.parametrize("where", ["find", "start"])
async def test_a_mistake_on_the_shorter_way_leaves_the_ordinary_one(where: str, known: bool) -> None:
    failing = Failing(where=where)
    connected = Connected(answering(), hot=failing)
    if known:
        await connected.exchange(GET)
        connected.transport.clear()
        assert failing.blocks
    text = await connected.exchange(GET, GET)
    assert statuses(text) == [200, 200]
    assert text.endswith(b"Hello, world")


async def test_a_mistake_of_the_protocol_is_a_500_that_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    connected = Connected(answering())
    monkeypatch.setattr(connected.protocol, "on_request", lambda: 1 / 0)
    text = await connected.exchange(GET)
    assert statuses(text) == [500]
    assert refusal(connected)["type"] == "urn:neverstale:internal"


class Mistaken(Reading):
    """A fast path that cannot say what it has read."""

    def __init__(self) -> None:
        super().__init__()
        self.server = SimpleNamespace(serve=lambda state: None, text=lambda: b"")

    def tail(self, *given: Any) -> bytes:
        raise ArithmeticError(given)

    choose = tail


@pytest.mark.parametrize(
    ("how", "status"),
    [
        (lambda cycle: cycle.hit(b"D" * 100, 1, None), 500),
        (lambda cycle: cycle.set_answer(Answer(None, b"", 0, 0, "hit", "l2")), 500),
        (lambda cycle: cycle.set_error(ArithmeticError()), 500),
        (lambda cycle: cycle.set_error(bad_parameter("x", "y")), 500),
        (lambda cycle: cycle.cancel(), 503),
    ],
    ids=["hit", "answer", "error", "problem", "cancelled"],
)
async def test_a_mistake_about_what_was_read_is_a_500(how: Any, status: int) -> None:
    mistaken = Mistaken()
    connected = Connected(answering(), hot=mistaken)
    await connected.exchange(GET)
    cycle = mistaken.started.pop()
    how(cycle)
    assert statuses(connected.transport.buffer) == [status]
    assert cycle.settled
    assert not connected.transport.closed
    await asyncio.sleep(0)
    await connected.exchange(GET)
    assert len(mistaken.started) == 1, "the connection serves on"
