"""The proxy passes everything on, and hurts only as it is told to."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from neverstale.ops.stack.ports import LOOPBACK, free_port
from tests.faults.rig.proxy import Proxy

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    port = free_port()
    server = await asyncio.start_server(echo, LOOPBACK, port)
    async with Proxy(port) as proxy:
        yield proxy
    server.close()


@pytest.fixture
async def ends(proxy: Proxy) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    yield reader, writer
    writer.close()


async def say(ends: Ends, words: bytes = b"hello", seconds: float = 0.2) -> bytes | None:
    """What comes back, or `None` if nothing does."""
    ends[1].write(words)
    try:
        async with asyncio.timeout(seconds):
            return await ends[0].readexactly(len(words))
    except TimeoutError:
        return None


async def test_everything_passes_in_order(ends: Ends) -> None:
    words = bytes(range(256)) * 4096
    assert await say(ends, words, 5) == words


async def test_a_delay_is_one_of_latency_and_not_of_rate(proxy: Proxy, ends: Ends) -> None:
    proxy.delay(0.1)
    started = time.monotonic()
    for _ in range(50):
        ends[1].write(b"x")
        await asyncio.sleep(0.002)
    assert await asyncio.wait_for(ends[0].readexactly(50), 5) == b"x" * 50
    assert 0.2 <= time.monotonic() - started < 2


async def test_what_is_held_comes_later(proxy: Proxy, ends: Ends) -> None:
    proxy.down.hold()
    assert await say(ends) is None
    proxy.heal()
    assert await asyncio.wait_for(ends[0].readexactly(5), 5) == b"hello"


async def test_what_is_dropped_never_comes(proxy: Proxy, ends: Ends) -> None:
    proxy.down.dropped = True
    assert await say(ends) is None
    proxy.heal()
    assert await say(ends, b"again", 5) == b"again"


async def test_a_cut_connection_is_reset_and_new_ones_are_refused_until_it_heals(proxy: Proxy, ends: Ends) -> None:
    assert await say(ends, seconds=5) == b"hello"
    proxy.refusing = True
    proxy.cut()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await ends[0].readexactly(1)
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    proxy.heal()
    new = await asyncio.open_connection(LOOPBACK, proxy.port)
    assert await say(new, seconds=5) == b"hello"
    new[1].close()


async def test_a_throttled_direction_is_slow(proxy: Proxy, ends: Ends) -> None:
    proxy.up.bytes_per_second = 1000
    started = time.monotonic()
    assert await say(ends, b"x" * 200, 5) == b"x" * 200
    assert time.monotonic() - started >= 0.2
