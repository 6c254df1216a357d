"""A connection to the protocol class, on a fake transport."""

import asyncio
from types import SimpleNamespace
from typing import Any

from starlette.responses import Response
from uvicorn.config import Config
from uvicorn.server import ServerState

from neverstale.api.server.cycle import Cycle
from neverstale.api.server.heard import Heard
from neverstale.api.server.protocol import HotProtocol
from neverstale.api.state import STATE
from neverstale.api.web.demands import Plain
from neverstale.api.web.unread import Unread
from neverstale.settings import Clients
from tests.support.opened import open_gate, opened


class Transport:
    def __init__(self) -> None:
        self.buffer = b""
        self.closed = False
        self.ended = False
        self.read_paused = False
        self.unsent = 0

    def get_extra_info(self, key: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 8001), "sslcontext": False}.get(key)

    def write(self, data: bytes) -> None:
        assert not self.closed and not self.ended
        self.buffer += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int) -> None: ...

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.read_paused = True

    def resume_reading(self) -> None:
        self.read_paused = False

    def clear(self) -> None:
        self.buffer = b""

    def set_protocol(self, protocol: asyncio.Protocol) -> None: ...


class Connected:
    def __init__(
        self,
        app: Any,
        *,
        hot: Any = None,
        gate: Any = None,
        clients: Clients | None = None,
        unread: Unread | None = None,
        heard: Heard | None = None,
        server: ServerState | None = None,
        **options: Any,
    ) -> None:
        self.state = server or ServerState()
        config = Config(app, access_log=False, log_config=None, **options)
        state = opened(
            hot=hot,
            gate=gate or open_gate(),
            clients=clients or Clients(keep_alive_seconds=config.timeout_keep_alive),
            unread=unread or Unread(1 << 62),
            heard=heard,
        )
        self.protocol = HotProtocol(config, self.state, {STATE: state}, asyncio.get_running_loop())
        self.transport = Transport()
        self.protocol.connection_made(self.transport)  # type: ignore[arg-type]

    async def run(self) -> None:
        """Until no ASGI task runs."""
        while self.state.tasks:
            await asyncio.wait(self.state.tasks)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def exchange(self, *data: bytes) -> bytes:
        for each in data:
            self.protocol.data_received(each)
        await self.run()
        return self.transport.buffer


class Reading:
    """A fast path that is still reading what it is asked for; and the shared headers of what it will have read."""

    def __init__(self) -> None:
        self.started: list[Cycle] = []
        self.server = SimpleNamespace(serve=lambda state: None)
        self.gate = self.limits = None
        self.blocks: dict[bytes, Any] = {}

    def look(self, line: bytes, plain: Plain) -> None:
        """L1 holds nothing."""

    def find(self, line: bytes) -> tuple[Any, Any]:
        return SimpleNamespace(name="things", locate=lambda key: (b"key", None)), "key"

    def start(self, cycle: Cycle) -> None:
        self.started.append(cycle)

    def count(self, source: Any, status: int) -> None: ...

    def beginning(self, status: int, now: float) -> bytes:
        return b"HTTP/1.1 200 OK\r\n"


def answering(content: bytes = b"Hello, world", **options: Any) -> Any:
    return Response(content, media_type="text/plain", **options)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await Response(b"Body: " + body)(scope, receive, send)
