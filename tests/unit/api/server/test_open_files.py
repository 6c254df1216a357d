"""More connections than there is room for: each of them is told so and closed, and the others notice nothing."""

import resource
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from neverstale.api.server.open_files import TURNED_AWAY, with_room
from neverstale.role.telemetry import REGISTRY
from neverstale.settings import Clients, Settings
from tests.support.connected import Connected, Reading, answering

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
FEW = Clients(connections=3)


def crowd() -> float:
    return REGISTRY.get_sample_value("neverstale_connections_cut_total", {"why": "crowd"}) or 0.0


class Room:
    """One server, to which clients connect."""

    def __init__(self) -> None:
        self.state = ServerState()

    def connect(self, **options: Any) -> Connected:
        return Connected(answering(), clients=FEW, server=self.state, **options)

    def leave(self, connected: Connected) -> None:
        connected.protocol.connection_lost(None)


@pytest.mark.parametrize("hot", [None, Reading()], ids=["without the fast path", "with it"])
async def test_one_connection_too_many_is_told_so_and_closed(hot: Any) -> None:
    room, before = Room(), crowd()
    served = [room.connect() for _ in range(FEW.connections)]
    refused = room.connect(hot=hot)
    head, _, body = refused.transport.buffer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in head and b"connection: close" in head
    assert b"urn:neverstale:overloaded" in body
    assert refused.transport.ended
    assert crowd() == before + 1
    said = refused.transport.buffer
    assert await refused.exchange(GET) == said  # nothing that it sends is answered
    for one in served:
        assert (await one.exchange(GET)).startswith(b"HTTP/1.1 200 ")


async def test_when_one_has_left_the_next_one_is_served() -> None:
    room = Room()
    served = [room.connect() for _ in range(FEW.connections)]
    refused = room.connect()
    room.leave(refused)
    room.leave(served[0])
    assert (await room.connect().exchange(GET)).startswith(b"HTTP/1.1 200 ")


async def test_a_crowd_of_those_that_are_turned_away_is_not_even_told() -> None:
    room = Room()
    for _ in range(FEW.connections + TURNED_AWAY):
        room.connect()
    last = room.connect()
    assert last.transport.closed and last.transport.buffer == b""


# --- files


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the operating system allows."""
    limits: dict[str, Any] = {"now": (1024, 4096), "refuses": False}

    def set_limit(_: int, wanted: tuple[int, int]) -> None:
        if limits["refuses"]:
            raise ValueError
        limits["now"] = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    yield limits


def settings_of(connections: int) -> Settings:
    return Settings(clients=Clients(connections=connections))


def test_the_soft_limit_is_raised_as_far_as_is_needed(system: dict[str, Any]) -> None:
    settings = settings_of(2000)
    assert with_room(settings) is settings
    soft, hard = system["now"]
    assert 2000 + TURNED_AWAY < soft < hard == 4096


@pytest.mark.parametrize("now", [(resource.RLIM_INFINITY, resource.RLIM_INFINITY), (1 << 20, 1 << 20)])
def test_where_there_is_room_nothing_is_changed(system: dict[str, Any], now: tuple[int, int]) -> None:
    system["now"] = now
    settings = settings_of(10_000)
    assert with_room(settings) is settings
    assert system["now"] == now


@pytest.mark.parametrize("refuses", [False, True])
def test_beyond_the_hard_limit_fewer_clients_are_let_in_and_it_is_said(system: dict[str, Any], refuses: bool) -> None:
    system["refuses"] = refuses
    with capture_logs() as logs:
        room = with_room(settings_of(10_000)).clients.connections
    allowed = 1024 if refuses else 4096
    servers = Settings().mongodb.max_pool_size + Settings().redis.max_connections
    assert 100 < room < allowed - TURNED_AWAY - servers
    [line] = logs
    assert (line["event"], str(room) in line["reason"], "LimitNOFILE" in line["remedy"]) == (
        "connections_limited",
        True,
        True,
    )


def test_some_client_is_always_let_in(system: dict[str, Any]) -> None:
    system["now"] = (64, 64)
    with capture_logs():
        assert with_room(settings_of(10_000)).clients.connections == 1
