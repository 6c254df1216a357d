"""What the tests of the fast read path share: the API on a socket, a consumer's voice, and a client of bytes."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import uvicorn
from fastapi import FastAPI

from neverstale.api.app import create_app
from neverstale.api.hits.fast_path import Hot
from neverstale.api.server.protocol import HotProtocol
from neverstale.api.state import STATE, State
from neverstale.keys import KeyValue, canonical
from neverstale.redis.announcements import Announcer
from neverstale.redis.corrections import Corrections
from neverstale.role.http_server import RoleServer
from neverstale.versions import Version, to_hex
from tests.support.opened import ordinary
from tests.support.waiting import eventually
from tests.worlds.api import PARTITIONS, World

_MOVING = (rb"date: [^\r]*", rb"neverstale-bound: [^\r]*", rb"age: [^\r]*")


@dataclass
class Served:
    """An API process's app behind uvicorn, in this event loop, and the world around it."""

    world: World
    app: FastAPI
    server: uvicorn.Server
    port: int
    announcer: Announcer

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, world: World, **config: Any) -> AsyncIterator[Self]:
        announcer = Announcer()
        world.cache = Corrections(world.redis, world.cache.names, announcer)
        app = create_app(world.settings, world.catalog)
        listener = socket.create_server(("127.0.0.1", 0))
        options: dict[str, Any] = {
            "http": HotProtocol,
            "access_log": False,
            "log_config": None,
            "server_header": False,
            "timeout_graceful_shutdown": 5,
        }
        server = RoleServer(uvicorn.Config(app, **(options | config)))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await _until_started(server, task)
            yield cls(world, app, server, listener.getsockname()[1], announcer)
        finally:
            server.should_exit = True
            await task

    @property
    def state(self) -> State:
        state: State = self.server.lifespan.state[STATE]
        return state

    @contextlib.asynccontextmanager
    async def routes(self) -> AsyncIterator[int]:
        """The port of a server of the same app whose requests all take the ordinary way."""
        listener = socket.create_server(("127.0.0.1", 0))
        options: dict[str, Any] = {"http": HotProtocol, "ws": "none", "lifespan": "off", "server_header": False}
        server = RoleServer(
            uvicorn.Config(ordinary(self.app, self.state), access_log=False, log_config=None, **options)
        )
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await _until_started(server, task)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task

    @property
    def hot(self) -> Hot:
        assert self.state.hot is not None
        return self.state.hot

    @contextlib.asynccontextmanager
    async def connection(self, port: int | None = None) -> AsyncIterator["Client"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def mark(self) -> Version:
        """Everything so far is applied on all partitions, and the served process knows."""
        version = await self.world.mark()

        async def known() -> bool:
            watermark = self.state.freshness.watermark
            return watermark is not None and watermark >= version

        await eventually(known, "the served process knows the watermark")
        return version

    async def vouched(self) -> Version:
        """As `mark`, and L1 has heard it; marks are repeated, since nothing is heard before it listens."""
        version = 0

        async def heard() -> bool:
            nonlocal version
            version = await self.mark()
            return 0 < self.hot.l1.watermark >= version

        await eventually(heard, "L1 is vouched for")
        return version

    async def change(self, resource: str, key: KeyValue, document: dict[str, Any]) -> Version:
        """Write, and apply it as a consumer does."""
        version = await self.world.write(resource, {"_id": key, **document})
        await self.world.apply(resource, [key], version)
        return version

    async def kept(self, path: str, key: KeyValue, resource: str = "things") -> bytes:
        """Read until L1 answers; the response."""
        await self.vouched()
        answer: list[bytes] = []

        async def in_l1() -> bool:
            async with self.connection() as client:
                answer[:] = [await client.get(path)]
            return b"detail=l1" in answer[0]

        await eventually(in_l1, f"{key!r} is in L1")
        return answer[0]


@dataclass
class Client:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def receive(self, method: str = "GET") -> bytes:
        """The next response, whole."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if method == "HEAD" or length is None or head.startswith(b"HTTP/1.1 304"):
                return head
            return head + await self.reader.readexactly(int(length[1]))

    async def get(self, path: str, *headers: str, method: str = "GET") -> bytes:
        self.send(request(path, *headers, method=method))
        return await self.receive(method)


def request(path: str, *headers: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


def unmoved(response: bytes) -> bytes:
    """Without the values that move from one millisecond to the next."""
    for line in _MOVING:
        response = re.sub(line, line[: line.index(b":")], response)
    return response


def body(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


def status(response: bytes) -> int:
    return int(response[9:12])


def header(response: bytes, name: str) -> str | None:
    match = re.search(rf"^{name}: (.*?)\r$".encode(), response.partition(b"\r\n\r\n")[0] + b"\r\n", re.MULTILINE)
    return match[1].decode() if match else None


def entry_keys(world: World, resource: str, keys: Sequence[KeyValue]) -> list[bytes]:
    return [world.cache.names.entry(resource, canonical(key)) for key in keys]


def hex_of(version: Version) -> str:
    return to_hex(version)


def all_partitions(version: Version, wall_ms: int) -> dict[int, tuple[Version, int]]:
    return dict.fromkeys(range(PARTITIONS), (version, wall_ms))


async def _until_started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    async def started() -> bool:
        if task.done():
            task.result()
        return server.started

    await eventually(started, "uvicorn serves")
