"""A client of streams, byte by byte: it notes every block, and when it came."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.support.waiting import eventually


@dataclass(frozen=True)
class Told:
    """One block."""

    at: float
    """Monotonic seconds."""
    event: str
    """`state`, `absent`, `problem`; empty: a comment alone."""
    id: str
    data: Any
    bound: str | None
    retry: str | None = None


@dataclass
class Listener:
    """One stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes = b""
    told: list[Told] = field(default_factory=list)
    ended: bool = False
    whole: bool = False
    """It ended with the last chunk."""

    @property
    def status(self) -> int:
        return int(self.head[9:12])

    @property
    def states(self) -> list[Told]:
        return [one for one in self.told if one.event in ("state", "absent")]

    @property
    def last(self) -> Any:
        return self.states[-1].data if self.states else None

    @property
    def last_id(self) -> str:
        return self.states[-1].id

    async def run(self) -> None:
        rest = b""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                if not (line := await self.reader.readline()):
                    break
                size = int(line, 16)
                rest += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
                if not size:
                    self.whole = True
                    break
                *blocks, rest = rest.split(b"\n\n")
                self.told += [parsed(block) for block in blocks]
        self.ended = True

    async def until(self, good: Callable[["Listener"], bool], what: str, seconds: float = 30) -> None:
        async def met() -> bool:
            return good(self)

        await eventually(met, f"{what}; told so far {[(one.event, one.id, one.data) for one in self.told][-5:]}")

    async def until_state(self, wanted: dict[str, Any]) -> Told:
        """Waits for a state that holds all these members."""
        await self.until(lambda one: one.last is not None and wanted.items() <= one.last.items(), f"a state {wanted}")
        return self.states[-1]


def parsed(block: bytes) -> Told:
    event, said, bound, retry = "", {"id": ""}, None, None
    data: list[str] = []
    for line in block.decode().split("\n"):
        name, _, value = line.partition(": ")
        if name == "":
            bound = value.removeprefix("bound ")
        elif name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name == "retry":
            retry = value
        else:
            said[name] = value
    loaded = orjson.loads("\n".join(data)) if data else None
    return Told(time.monotonic(), event or ("state" if data else ""), said["id"], loaded, bound, retry)


@contextlib.asynccontextmanager
async def listening(
    port: int, path: str, *headers: str, accept: str = "text/event-stream"
) -> AsyncIterator[Listener]:
    """A stream that is read until the block ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", "Host: test", f"Accept: {accept}", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    listener = Listener(reader, writer)
    task: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(20):
            listener.head = await reader.readuntil(b"\r\n\r\n")
        if listener.status == 200:
            task = asyncio.create_task(listener.run())
        yield listener
    finally:
        writer.close()
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
