"""The readers' HTTP client, against a server that answers as it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from neverstale.ops.http_client import Connection


@asynccontextmanager
async def server(*answers: bytes, close: bool = False) -> AsyncIterator[str]:
    """Gives the answers one after the other on each connection; then is silent, or closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer)
            if not close:
                await reader.read()
        except asyncio.CancelledError:
            pass  # Python 3.11 takes a cancelled handler for a failure of its own
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


def answer(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def test_one_connection_serves_many_questions() -> None:
    async with server(answer(b"one", more="ETag: x\r\n"), answer(b"", "404 Not Found")) as url:
        connection = await Connection.open(url)
        first, second = await connection.get("/a", 5), await connection.get("/b", 5)
        connection.close()
    assert (first.status, first.body, first.headers["etag"]) == (200, b"one", "x")
    assert (second.status, second.body) == (404, b"")


async def test_an_answer_in_chunks_is_put_together() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    async with server(chunked) as url:
        connection = await Connection.open(url)
        assert (await connection.get("/", 5)).body == b"onetwo"
        connection.close()


async def test_a_closed_connection_is_an_error_and_of_no_more_use() -> None:
    async with server(close=True) as url:
        connection = await Connection.open(url)
        with pytest.raises(ConnectionError):
            await connection.get("/", 5)
        assert not connection.usable


async def test_an_answer_that_comes_too_late_is_never_taken_for_the_next_one() -> None:
    async with server() as url:
        connection = await Connection.open(url)
        with pytest.raises(TimeoutError):
            await connection.get("/", 0.01)
        with pytest.raises(ConnectionError):
            await connection.get("/", 5)


async def test_what_is_not_http_is_an_error() -> None:
    async with server(b"hello\r\n\r\n") as url:
        connection = await Connection.open(url)
        with pytest.raises(ConnectionError, match="not HTTP"):
            await connection.get("/", 5)
        connection.close()


async def test_a_server_that_wants_to_close_is_left() -> None:
    async with server(answer(b"last", more="Connection: close\r\n")) as url:
        connection = await Connection.open(url)
        assert (await connection.get("/", 5)).body == b"last"
        assert not connection.usable
