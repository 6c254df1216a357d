"""A small TCP proxy in front of one port: passes everything on until it is told to hurt.

Each direction is hurt by itself: delayed, throttled, held (nothing passes, nothing is lost, the connection stays),
or dropped (what is sent vanishes). Connections may be cut, and new ones refused.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from neverstale.ops.stack.ports import LOOPBACK, free_port

CHUNK: Final = 1 << 16
CHUNKS_UNDER_WAY: Final = 64

Chunk = tuple[float, bytes]
"""When it came, and what."""


@dataclass(slots=True)
class Way:
    """One direction, for all connections, at present."""

    delay_seconds: float = 0.0
    bytes_per_second: float | None = None
    dropped: bool = False
    sought: bytes = b""
    found: int = 0
    """How often what is sought has come, whether it has passed or not."""
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._open.set()

    def seek(self, sought: bytes) -> None:
        """Count from now on how often these bytes come. (Not where two reads part them.)"""
        self.sought, self.found = sought, 0

    def hold(self) -> None:
        """Let nothing pass until `release`."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def heal(self) -> None:
        """Pass everything on, from now on."""
        self.delay_seconds, self.bytes_per_second, self.dropped = 0.0, None, False
        self.release()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes until it ends."""
        chunks: asyncio.Queue[Chunk | None] = asyncio.Queue(CHUNKS_UNDER_WAY)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(reader, chunks))
            group.create_task(self._write(chunks, writer))

    async def _read(self, reader: asyncio.StreamReader, chunks: asyncio.Queue[Chunk | None]) -> None:
        while data := await reader.read(CHUNK):
            self.found += data.count(self.sought) if self.sought else 0
            await chunks.put((time.monotonic(), data))
        await chunks.put(None)

    async def _write(self, chunks: asyncio.Queue[Chunk | None], writer: asyncio.StreamWriter) -> None:
        while (chunk := await chunks.get()) is not None:
            came, data = chunk
            await asyncio.sleep(max(0.0, came + self.delay_seconds - time.monotonic()) if self.delay_seconds else 0)
            await self._open.wait()
            if self.bytes_per_second:
                await asyncio.sleep(len(data) / self.bytes_per_second)
            if not self.dropped:
                writer.write(data)
                await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


class Proxy:
    """Listens on `port` and leads to `target`. `async with` opens and closes it."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.port = port or free_port()
        self.up = Way()
        """From the clients to the server."""
        self.down = Way()
        """From the server to the clients."""
        self.refusing = False
        """New connections are reset at once."""
        self.connections = 0
        """How many there have been."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._joined: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open(self) -> int:
        """Connections to the server."""
        return len(self._joined)

    @property
    def redis_url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def hold(self) -> None:
        """Half-open: connections stay and are accepted, and nothing passes."""
        self.up.hold()
        self.down.hold()

    def delay(self, seconds: float) -> None:
        """Let each direction take so long."""
        self.up.delay_seconds = self.down.delay_seconds = seconds

    def cut(self) -> None:
        """Reset every connection there is."""
        for writer in list(self._writers):
            writer.transport.abort()

    def heal(self) -> None:
        self.up.heal()
        self.down.heal()
        self.refusing = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, limit=CHUNK)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if not self.refusing:
                self.connections += 1
                await self._join(reader, writer)
        except asyncio.CancelledError:
            pass  # the proxy is closing; `asyncio.start_server` would report it as an error
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self.target, limit=CHUNK)
        except OSError:
            return
        self._writers.add(server_writer)
        self._joined.add(server_writer)
        try:
            with contextlib.suppress(ExceptionGroup):  # one end broke; the other is broken with it
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.up.carry(reader, server_writer))
                    group.create_task(self.down.carry(server_reader, writer))
        finally:
            server_writer.transport.abort()
            self._writers.discard(server_writer)
            self._joined.discard(server_writer)
