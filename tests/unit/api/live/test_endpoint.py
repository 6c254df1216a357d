"""A stream on a connection of ours, on a fake transport: it outlives its request, and ends in order."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from neverstale.api.callers.caller import ANYBODY
from neverstale.api.callers.middleware import VISIT
from neverstale.api.live.endpoint import LiveOr, LiveReads
from neverstale.api.live.feeds import Feeds
from neverstale.api.live.places import StreamPlaces
from neverstale.api.live.subjects import SubjectAnswer
from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.state import STATE
from neverstale.api.web.problems import Problem
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.role.tasks import Tasks
from neverstale.settings import Clients, LiveSettings
from tests.support.connected import Connected
from tests.support.waiting import eventually

GET = b"GET /a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
NAME = b"a"


class OneNumber:
    """A subject whose state is a number."""

    name, identity, absence, names = "things", "a", b"{}", frozenset((NAME,))
    groups = (DEFAULT_GROUP,)
    number = 1

    def told(self) -> str:
        return "documents"

    def count_read(self) -> None: ...

    async def get(self, wish: Wish) -> SubjectAnswer:
        body = b"%d" % self.number
        return SubjectAnswer(Answer(body, body, self.number, self.number, "hit", "l2"), self.names)


class Stage:
    def __init__(self, **settings: Any) -> None:
        made = LiveSettings(state_interval_ms=0, **settings)
        self.subject = OneNumber()
        self.feeds = Feeds(made, Tasks(), lambda complete: 0.0)
        self.live = LiveReads(self.feeds, StreamPlaces(made), made, Random(1))
        self.connections: list[Connected] = []

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        scope["state"][STATE] = SimpleNamespace(live=self.live, freshness=SimpleNamespace(bound=lambda complete: 0.0))
        scope[VISIT] = SimpleNamespace(badge=SimpleNamespace(bucket=b"me"), caller=ANYBODY)
        try:
            await LiveOr(self.app, lambda _: self.subject)(scope, receive, send)
        except Problem as problem:
            await problem.response()(scope, receive, send)

    async def watch(self) -> Connected:
        connected = Connected(self.app, interface="asgi3")
        self.connections.append(connected)
        await connected.exchange(GET)
        return connected

    def change(self, number: int) -> None:
        self.subject.number = number
        self.feeds.hear(number)
        self.feeds.changed(NAME)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    for connected in stage.connections:
        connected.protocol.connection_lost(None)
    assert stage.feeds.idle
    assert not stage.feeds.streams


async def shows(connected: Connected, number: int) -> None:
    async def shown() -> bool:
        return b"data: %d\n\n\r\n" % number in connected.transport.buffer

    await eventually(shown, f"{number} is shown")


async def test_the_request_ends_and_its_stream_goes_on(stage: Stage) -> None:
    connected = await stage.watch()
    assert not connected.state.tasks
    assert not connected.transport.closed
    assert b"connection: close\r\n" in connected.transport.buffer
    await shows(connected, 1)
    stage.change(2)
    await shows(connected, 2)
    assert not connected.state.tasks


async def test_the_end_of_the_process_ends_it_with_a_last_chunk(stage: Stage) -> None:
    connected = await stage.watch()
    stage.live.drain()
    assert connected.transport.buffer.endswith(b"\r\n0\r\n\r\n")
    assert connected.transport.closed
    late = await stage.watch()
    assert b"200 OK" in late.transport.buffer
    assert late.transport.buffer.endswith(b"\r\n0\r\n\r\n")


async def test_who_reads_nothing_is_written_nothing_and_is_then_shown_the_last_state(stage: Stage) -> None:
    connected = await stage.watch()
    connected.protocol.pause_writing()
    written = len(connected.transport.buffer)
    for number in range(2, 9):
        stage.change(number)
        await asyncio.sleep(0.005)
    assert len(connected.transport.buffer) == written
    connected.protocol.resume_writing()
    await shows(connected, 8)
    assert connected.transport.buffer.count(b"data: ") == 2


async def test_who_reads_nothing_does_not_hold_up_the_end(stage: Stage) -> None:
    connected = await stage.watch()
    connected.protocol.pause_writing()
    stage.live.drain()
    assert connected.transport.closed


async def test_a_place_is_free_again_when_its_client_is_gone() -> None:
    stage = Stage(streams=1)
    first = await stage.watch()
    assert b"503 Service Unavailable" in (await stage.watch()).transport.buffer
    first.protocol.connection_lost(None)
    assert b"200 OK" in (await stage.watch()).transport.buffer


async def test_one_caller_may_have_only_so_many() -> None:
    stage = Stage(streams_per_caller=1)
    await stage.watch()
    assert b"429 Too Many Requests" in (await stage.watch()).transport.buffer


async def test_without_places_live_reads_are_switched_off() -> None:
    assert b"403 Forbidden" in (await Stage(streams=0).watch()).transport.buffer


async def test_no_deadline_of_idle_connections_ends_a_stream() -> None:
    stage = Stage()
    connected = Connected(stage.app, interface="asgi3", clients=Clients(keep_alive_seconds=0, head_seconds=0.01))
    await connected.exchange(GET)
    await asyncio.sleep(0.1)
    assert not connected.transport.closed
    stage.change(2)
    await shows(connected, 2)


async def test_what_is_asked_behind_a_stream_waits(stage: Stage) -> None:
    connected = await stage.watch()
    connected.protocol.data_received(GET)
    await asyncio.sleep(0.02)
    assert connected.transport.buffer.count(b"HTTP/1.1 200") == 1
    assert connected.transport.read_paused
