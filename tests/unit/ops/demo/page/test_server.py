"""The board's server: who may ask what, and that streams pass as they are."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from neverstale.ops.demo.page.server import BoardServer


class Switch:
    frozen = False

    def turn(self, *, frozen: bool) -> None:
        self.frozen = frozen


@pytest.fixture
def switch() -> Switch:
    return Switch()


@pytest.fixture
async def port(switch: Switch) -> AsyncIterator[int]:
    async def api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.lower().count(b"connection:") == 1
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + head.split(b" ")[1])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(api, "127.0.0.1", 0)
    board: Any = BoardServer(server.sockets[0].getsockname()[1], switch, lambda: {"days": ["x"]})  # type: ignore[arg-type]
    async with board.serving() as url:
        yield int(url.rsplit(":", 1)[1].strip("/"))
    server.close()


async def asked(port: int, text: str, body: str = "") -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.replace("PORT", str(port)).replace("\n", "\r\n").encode() + b"\r\n\r\n" + body.encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer


FREEZE = "POST /freeze HTTP/1.1\nHost: 127.0.0.1:PORT\nContent-Length: 15\nContent-Type: application/json"
BODY = json.dumps({"frozen": True}).replace(" ", "")


async def test_the_page_and_its_parts_are_served(port: int) -> None:
    for path in ("/", "/board.css", "/board.js"):
        answer = await asked(port, f"GET {path} HTTP/1.1\nHost: 127.0.0.1:PORT")
        assert answer.startswith("HTTP/1.1 200 OK")
        assert "content-security-policy: default-src 'none'" in answer


async def test_the_switch_freezes_and_lets_go_on_and_nothing_stays_frozen(port: int, switch: Switch) -> None:
    assert '"frozen":true' in await asked(port, FREEZE, BODY)
    assert switch.frozen
    assert '"frozen":true' in await asked(port, "GET /board.json HTTP/1.1\nHost: localhost:PORT")
    body = '{"frozen":null}'
    await asked(port, FREEZE, body)
    assert not switch.frozen


@pytest.mark.parametrize(
    "text",
    [
        FREEZE.replace("127.0.0.1", "evil.example"),
        FREEZE + "\nOrigin: http://evil.example",
        FREEZE.replace("application/json", "text/plain"),
        "GET /v1/flights/a HTTP/1.1\nHost: evil.example",
        "GET /board.json HTTP/1.1\nHost: evil.example:PORT",
    ],
)
async def test_pages_of_others_can_neither_read_nor_freeze(port: int, switch: Switch, text: str) -> None:
    assert (await asked(port, text, BODY)).startswith("HTTP/1.1 403")
    assert not switch.frozen


async def test_what_is_below_v1_is_the_apis(port: int) -> None:
    answer = await asked(port, "GET /v1/flights/a?x=1 HTTP/1.1\nHost: 127.0.0.1:PORT\nConnection: keep-alive")
    assert answer.endswith("/v1/flights/a?x=1")


async def test_what_is_no_request_closes_the_connection(port: int) -> None:
    assert await asked(port, "nonsense") == ""
