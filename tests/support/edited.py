"""Real servers whose answers are edited on their way: as other versions, other clocks or other set-ups would answer.

A server that cannot be had here (a mongos, an old release, a member whose clock is wrong, more brokers) is a real one
that says something else in one place. Everything else, from the connection to what it stores, is its own.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

import bson
from aiokafka.protocol.metadata import (
    MetadataResponse_v1,
    MetadataResponse_v2,
    MetadataResponse_v3,
    MetadataResponse_v4,
    MetadataResponse_v5,
)
from bson.codec_options import DEFAULT_CODEC_OPTIONS, DatetimeConversion

from neverstale.ops.stack.ports import LOOPBACK

OP_REPLY: Final = 1
OP_MSG: Final = 2013
_BEFORE_DOCUMENT: Final = {OP_REPLY: 20, OP_MSG: 5}
"""Bytes between the header and the document of an answer: flags and counts; flags and a section's kind."""
_OPTIONS: Final = DEFAULT_CODEC_OPTIONS.with_options(datetime_conversion=DatetimeConversion.DATETIME_MS)
METADATA: Final = 3
_METADATA: Final = {
    one.API_VERSION: one
    for one in (
        MetadataResponse_v1,
        MetadataResponse_v2,
        MetadataResponse_v3,
        MetadataResponse_v4,
        MetadataResponse_v5,
    )
}
Document = dict[str, Any]


class Answers(Protocol):
    """What one connection's server answers."""

    def hear(self, data: bytes) -> None:
        """What the client sends; most need not know."""
        return

    async def edited(self, reader: asyncio.StreamReader) -> bytes:
        """What comes next; `IncompleteReadError` at the end."""


class MongoAnswers(Answers):
    def __init__(self, edit: Callable[[Document], None]) -> None:
        self._edit = edit

    async def edited(self, reader: asyncio.StreamReader) -> bytes:
        length, request, answered, code = struct.unpack("<iiii", await reader.readexactly(16))
        body = await reader.readexactly(length - 16)
        start = _BEFORE_DOCUMENT[code]
        document = bson.decode(body[start:], _OPTIONS)
        self._edit(document)
        body = body[:start] + bson.encode(document)
        return struct.pack("<iiii", len(body) + 16, request, answered, code) + body


class RedisAnswers(Answers):
    """`edit` is given what comes together, and leaves it as long as it is."""

    def __init__(self, edit: Callable[[bytes], bytes]) -> None:
        self._edit = edit

    async def edited(self, reader: asyncio.StreamReader) -> bytes:
        data = await reader.read(1 << 20)
        if not data:
            raise asyncio.IncompleteReadError(b"", None)
        found = self._edit(data)
        assert len(found) == len(data)
        return found


class KafkaAnswers(Answers):
    """`edit` is given what a broker says of brokers and topics, in the order of the protocol's fields."""

    def __init__(self, edit: Callable[[Any], None]) -> None:
        self._edit = edit
        self._asked: dict[int, int] = {}
        """Requests for metadata that are not answered yet: their ids and versions."""
        self._rest = b""

    def hear(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) >= 4 and len(self._rest) >= (end := 4 + struct.unpack_from(">i", self._rest)[0]):
            key, version, request = struct.unpack_from(">hhi", self._rest, 4)
            if key == METADATA:
                self._asked[request] = version
            self._rest = self._rest[end:]

    async def edited(self, reader: asyncio.StreamReader) -> bytes:
        (length,) = struct.unpack(">i", await reader.readexactly(4))
        body = await reader.readexactly(length)
        version = self._asked.pop(struct.unpack_from(">i", body)[0], None)
        if version is not None:
            said = _METADATA[version].decode(body[4:])
            self._edit(said)
            body = body[:4] + said.encode()
        return struct.pack(">i", len(body)) + body


@asynccontextmanager
async def edited(target: int, answers: Callable[[], Answers]) -> AsyncIterator[int]:
    """The port at which the server of `target` answers so."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _joined(reader, writer, target, answers())
        except asyncio.CancelledError:
            pass  # the end; `asyncio.start_server` would report it as an error
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(accept, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await _turns()  # whoever was let in just now begins, so that he can be seen out
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _turns()  # what was cut off is closed in the next turn


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int, answers: Answers) -> None:
    server_reader, server_writer = await asyncio.open_connection(LOOPBACK, target)

    async def up() -> None:
        while data := await reader.read(1 << 16):
            answers.hear(data)
            server_writer.write(data)
            await server_writer.drain()

    async def down() -> None:
        while True:
            writer.write(await answers.edited(server_reader))
            await writer.drain()

    ways = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        try:
            for way in ways:
                with suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                    await way
        finally:
            server_writer.transport.abort()
