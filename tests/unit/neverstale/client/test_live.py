"""A live read over streams that break, stand still, repeat themselves and say odd things."""

import random
from collections.abc import AsyncIterator, Sequence
from itertools import count

import httpx
import pytest

from neverstale.client import AsyncClient, Fresh, NothingThere, Session, TryLater, Unintelligible, reads
from neverstale.client.failures import MEDIA_TYPE
from neverstale.client.reads import Json
from neverstale.versions import to_hex

PROBLEM = b'{"type":"urn:neverstale:x","status":%d,"detail":"why"}'


class Bytes(httpx.AsyncByteStream):
    """What a connection brings, piece by piece; an exception breaks it."""

    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        self._pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Streams(httpx.AsyncBaseTransport):
    """Connections, one after the other."""

    def __init__(self, *connections: Sequence[bytes | Exception] | httpx.Response | Exception) -> None:
        self.asked: list[httpx.Request] = []
        self.opened: list[Bytes] = []
        self._connections = list(connections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if not self._connections:
            raise Done
        one = self._connections.pop(0)
        if isinstance(one, httpx.Response):
            return one
        if isinstance(one, Exception):
            raise one
        self.opened.append(Bytes(one))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=self.opened[-1])


class Done(Exception):
    """There are no more connections."""


@pytest.fixture(autouse=True)
def paused(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("neverstale.client.live.asyncio.sleep", sleep)
    return pauses


def state(version: int, text: str, name: str = "") -> bytes:
    event = f"event: {name}\n" if name else ""
    return f": bound 0.{version}00\n{event}id: {to_hex(version)}\ndata: {text}\n\n".encode()


def problem(status: int, **headers: str) -> httpx.Response:
    told = {"content-type": MEDIA_TYPE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.Response(status, headers=told, content=PROBLEM % status)


async def states(transport: Streams, session: Session | None = None) -> list[Fresh[Json | None]]:
    """All that come until there are no more connections."""
    found: list[Fresh[Json | None]] = []
    async with AsyncClient("http://api", transport=transport, session=session, pause=random.Random(1)) as api:
        with pytest.raises(Done):
            async for one in api.live(reads.document("things", "a")):
                found.append(one)  # noqa: PERF401, for it ends in an exception
    return found


async def test_each_state_comes_with_its_version_and_bound() -> None:
    transport = Streams([state(1, '{"n":1}') + state(2, "{}", "absent") + state(3, '{"n":3}')])
    found = await states(transport)
    assert [(one.value, one.version, one.bound, one.age) for one in found] == [
        ({"n": 1}, 1, 0.1, 1),
        (None, 2, 0.2, 1),
        ({"n": 3}, 3, 0.3, 1),
    ]
    assert transport.asked[0].headers["accept"] == "text/event-stream"


async def test_a_stream_that_breaks_is_begun_again_from_the_last_version() -> None:
    transport = Streams(
        [state(1, '{"n":1}'), httpx.ReadError("cut")],
        httpx.ConnectError("away"),
        problem(503, retry_after="2"),
        httpx.Response(502, text="<html>"),
        [state(1, '{"n":1}'), state(4, '{"n":4}')],
        [state(4, '{"n":4}'), httpx.ReadTimeout("silent")],
        [state(5, '{"n":5}')],
    )
    found = await states(transport)
    assert [one.value for one in found] == [{"n": 1}, {"n": 4}, {"n": 5}], "what is there already is not told twice"
    last = [request.headers.get("last-event-id") for request in transport.asked]
    assert last == [None, *[to_hex(1)] * 4, to_hex(4), to_hex(4), to_hex(5)]


async def test_time_never_goes_backwards() -> None:
    transport = Streams([state(5, '{"n":5}'), state(3, '{"n":3}')], [state(4, '{"n":4}'), state(6, '{"n":6}')])
    session = Session(2)
    assert [one.version for one in await states(transport, session)] == [5, 6]
    assert transport.asked[0].headers["neverstale-min-version"] == to_hex(2)
    assert session.version == 6


async def test_pauses_grow_until_a_state_comes(paused: list[float]) -> None:
    away = [httpx.ConnectError("away") for _ in range(9)]
    await states(Streams(*away, [state(1, "{}")], httpx.ConnectError("away")))
    growing, after = paused[:9], paused[9:]
    assert all(
        0.7 * expected <= pause <= 1.3 * expected
        for pause, expected in zip(growing, (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10), strict=True)
    )
    assert after[0] <= 0.13


async def test_the_api_says_when_to_come_back(paused: list[float]) -> None:
    await states(Streams([b"retry: 3000\n\n", state(1, "{}")], problem(503, retry_after="5")))
    assert 2.1 <= paused[0] <= 3.9 and 3.5 <= paused[1] <= 6.5


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (problem(404), NothingThere),
        (httpx.Response(200, headers={"content-type": "application/json"}, content=b"{}"), Unintelligible),
        (httpx.Response(404, text="<html>"), Unintelligible),
    ],
    ids=str,
)
async def test_what_would_never_succeed_ends_it(answer: httpx.Response, failure: type[Exception]) -> None:
    async with AsyncClient("http://api", transport=Streams(answer)) as api:
        with pytest.raises(failure):
            async for _ in api.live(reads.document("things", "a")):
                pass


async def test_a_state_of_another_form_ends_it() -> None:
    async with AsyncClient("http://api", transport=Streams([state(1, "[]")])) as api:
        with pytest.raises(Unintelligible):
            async for _ in api.live(reads.document("things", "a")):
                pass


async def test_events_of_a_later_release_and_malformed_versions_are_left_out() -> None:
    odd = b"id: soon\ndata: {}\n\n" + state(7, "{}", "party") + b"event: problem\ndata: nothing\n\n"
    assert [one.version for one in await states(Streams([odd, state(8, "{}")]))] == [8]


async def test_trouble_is_told_beside_the_states_and_ends_with_the_next() -> None:
    transport = Streams([state(1, "{}"), b"event: problem\ndata: " + PROBLEM % 503 + b"\n\n", state(2, '{"n":2}')])
    async with AsyncClient("http://api", transport=transport) as api:
        live = api.live(reads.document("things", "a"))
        told = []
        with pytest.raises(Done):
            async for _ in live:
                told.append(live.trouble)  # noqa: PERF401
        assert told == [None, None]
        transport = Streams([state(1, "{}"), b"event: problem\ndata: " + PROBLEM % 503 + b"\n\n"])
    async with AsyncClient("http://api", transport=transport) as api:
        live = api.live(reads.document("things", "a"))
        with pytest.raises(Done):
            async for _ in live:
                pass
        assert isinstance(live.trouble, TryLater) and live.trouble.detail == "why"


async def test_the_bound_grows_while_the_api_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(100.0, 2.0)
    monkeypatch.setattr("neverstale.client.live.time.monotonic", lambda: next(clock))
    async with AsyncClient("http://api", transport=Streams([state(1, "{}")])) as api:
        live = api.live(reads.document("things", "a"))
        assert live.bound is None
        async for one in live:
            assert one.bound == 0.1
            assert [live.bound, live.bound] == pytest.approx([2.1, 4.1])
            break
        await live.aclose()


async def test_who_leaves_closes_the_connection() -> None:
    transport = Streams([state(1, "{}"), state(2, '{"n":2}')])
    async with AsyncClient("http://api", transport=transport) as api:
        async with api.live(reads.document("things", "a")) as live:
            async for _ in live:
                break
        assert transport.opened[0].closed
