"""Ports: free ones, wanted ones, and what listens there."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.ports import CANDIDATES, answers_http, answers_ping, free_port, listens, wanted_port


@pytest.fixture
def used_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


async def answering(reply: bytes) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(reply)
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


def port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


def test_no_port_is_handed_out_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50


def test_free_ports_lie_where_no_outgoing_connection_takes_its_own() -> None:
    assert free_port() in CANDIDATES
    assert max(CANDIDATES) < 32_768


def test_a_wanted_port_that_is_free_is_granted() -> None:
    port = free_port()
    assert wanted_port(port, "--api-port") == port


def test_a_wanted_port_in_use_is_one_sentence_with_the_port_the_option_and_the_remedy(used_port: int) -> None:
    with pytest.raises(StackError) as raised:
        wanted_port(used_port, "--mongo-port")
    assert str(raised.value) == (
        f"port {used_port} is in use; stop what listens there, or choose another with --mongo-port (0: any)"
    )


async def test_a_port_listens_or_does_not(used_port: int) -> None:
    assert await listens(used_port)
    assert not await listens(free_port())


@pytest.mark.parametrize(("reply", "ready"), [(b"+PONG\r\n", True), (b"-LOADING Redis is loading\r\n", False)])
async def test_a_redis_is_ready_when_it_answers_ping_and_not_while_it_loads(reply: bytes, ready: bool) -> None:
    async with await answering(reply) as server:
        assert await answers_ping(port_of(server)) is ready


@pytest.mark.parametrize(("status", "ready"), [("200 OK", True), ("503 Service Unavailable", False)])
async def test_a_role_is_ready_when_it_answers_200(status: str, ready: bool) -> None:
    async with await answering(f"HTTP/1.1 {status}\r\n\r\n".encode()) as server:
        assert await answers_http(port_of(server), "/readyz") is ready
