"""The connection on which hits are read: every kind of address, no reply of another's, no reply of another server."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as PlainRedis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as TooLate

from neverstale.api.freshness.redis_identity import tell_identity
from neverstale.ops.stack.redis import RedisOptions, RedisServer, start_redis
from neverstale.redis.wire import Wire, whoever
from neverstale.servers import redis_client
from neverstale.settings import RedisSettings
from tests.support.waiting import eventually

PATIENT_MS = 10_000
GET = (b"GET", b"test-wire:key")
LOOPBACK = "127.0.0.1"
Start = Callable[[str], Awaitable[RedisServer]]


class Told:
    """What new connections say where they lead to; the last one is vouched for."""

    def __init__(self) -> None:
        self.identities: list[str] = []

    def vouches(self, identity: str) -> bool:
        return bool(self.identities) and self.identities[-1] == identity


@asynccontextmanager
async def wire_to(url: str, timeout_ms: int = PATIENT_MS, **more: Any) -> AsyncIterator[tuple[Wire, Told]]:
    settings = RedisSettings.model_validate({"url": url, "connect_timeout_ms": PATIENT_MS, **more})
    client, told = redis_client(settings, timeout_ms=timeout_ms), Told()
    tell_identity(client, told.identities.append)
    wire = Wire(client, told.vouches)
    try:
        yield wire, told
    finally:
        wire.close()
        await client.aclose()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Start]:
    """Starts servers of this test's own, by name."""
    started: list[RedisServer] = []

    async def start(name: str) -> RedisServer:
        started.append(await start_redis(RedisOptions(data=tmp_path, name=name)))
        return started[-1]

    try:
        yield start
    finally:
        for server in started:
            server.kill()


# --- addresses


async def test_what_is_exchanged_at_once_comes_back_in_order(redis_url: str) -> None:
    async with wire_to(redis_url) as (wire, told):
        sent = [[(b"ECHO", b"%d" % n), (b"ECHO", b"%d and" % n)] for n in range(200)]
        replies = await asyncio.gather(*(wire.exchange(commands) for commands in sent))
    assert replies == [[text for _, text in commands] for commands in sent]
    assert len(told.identities) == 1  # one connection


async def test_what_several_ways_send_in_one_turn_asks_once_who_answers_and_each_gets_its_part(
    own_server: Start,
) -> None:
    server = await own_server("counted")
    async with wire_to(server.url) as (wire, _):
        await wire.exchange_with([(b"CONFIG", b"RESETSTAT")], whoever)
        sent = [[(b"ECHO", b"%d.%d" % (way, n)) for n in range(way)] for way in range(5)]
        replies = await asyncio.gather(*(wire.exchange_with(commands, whoever) for commands in sent))
        assert replies == [[text for _, text in commands] for commands in sent]
        wrong, right = await asyncio.gather(
            wire.exchange_with([(b"NO-SUCH-COMMAND",)], whoever), wire.exchange_with([(b"ECHO", b"a")], whoever)
        )
        assert isinstance(wrong[0], RedisError) and right == [b"a"]
        (stats,) = await wire.exchange_with([(b"INFO", b"commandstats")], whoever)
    assert b"cmdstat_info:calls=3," in stats, "behind the reset, and behind each of the two batches"


async def test_of_ways_that_share_a_connection_all_are_told_when_one_gives_up_or_it_is_closed(redis_url: str) -> None:
    async with wire_to(redis_url) as (wire, told):
        await wire.exchange_with([GET], whoever)
        slow = asyncio.create_task(wire.exchange_with([(b"BLPOP", b"test-wire:nothing", b"60")], whoever))
        beside = asyncio.create_task(wire.exchange_with([(b"ECHO", b"beside")], whoever))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        slow.cancel()
        with pytest.raises(RedisError):
            await beside
        assert slow.cancelled()
        assert await wire.exchange_with([(b"ECHO", b"mine")], whoever) == [b"mine"]
        gathered = asyncio.create_task(wire.exchange_with([GET], whoever))
        await asyncio.sleep(0)
        wire.close()  # before it has left
        with pytest.raises(RedisError):
            await gathered
        assert len(told.identities) == 2


async def test_each_way_that_shares_a_connection_is_vouched_for_by_itself(redis_url: str) -> None:
    async with wire_to(redis_url) as (wire, _):
        refused = asyncio.create_task(wire.exchange_with([GET], lambda identity: False))
        await wire.exchange_with([GET], whoever)
        with pytest.raises(RedisError):
            await refused


async def test_the_database_user_and_password_of_the_address_are_used(
    own_server: Start,
) -> None:
    server = await own_server("guarded")
    with PlainRedis.from_url(server.url) as plain:
        plain.acl_setuser("reader", enabled=True, passwords=["+p@ss"], keys=["*"], commands=["+@all"])
        plain.acl_setuser("default", enabled=False)
    url = f"redis://reader:p%40ss@{LOOPBACK}:{server.port}/3"
    async with wire_to(url) as (wire, _):
        (who, client) = await wire.exchange([(b"ACL", b"WHOAMI"), (b"CLIENT", b"INFO")])
    assert who == b"reader"
    assert b" db=3 " in client


async def test_a_unix_socket_is_an_address_too(redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    relay = relayed(redis_url, lambda serve: asyncio.start_unix_server(serve, path))
    async with relay, wire_to(f"unix://{path}") as (wire, _):
        assert await wire.exchange([(b"ECHO", b"there")]) == [b"there"]


async def test_tls_is_spoken_and_the_certificate_checked(redis_url: str, tmp_path: Path) -> None:
    certificate, key = certificate_of(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server((LOOPBACK, 0))
    address = f"rediss://{LOOPBACK}:{listener.getsockname()[1]}/0"
    async with relayed(redis_url, lambda serve: asyncio.start_server(serve, sock=listener, ssl=context)):
        async with wire_to(address, ssl_cafile=certificate) as (wire, _):
            large = b"x" * 300_000
            assert await wire.exchange([(b"ECHO", large)]) == [large]
        async with wire_to(address) as (wire, _):
            with pytest.raises(RedisError):
                await wire.exchange([GET])


# --- no reply of another's


async def test_after_a_reply_that_came_too_late_the_connection_is_never_used_again(redis_url: str) -> None:
    async with wire_to(redis_url, timeout_ms=300) as (wire, told):
        await wire.exchange([GET])
        with pytest.raises(TooLate):
            await wire.exchange([(b"BLPOP", b"test-wire:nothing", b"1"), (b"ECHO", b"late")])
        assert await wire.exchange([(b"ECHO", b"mine")]) == [b"mine"]
        assert len(told.identities) == 2


async def test_after_a_cancelled_exchange_the_connection_is_never_used_again(redis_url: str) -> None:
    async with wire_to(redis_url) as (wire, told):
        await wire.exchange([GET])
        given_up = asyncio.create_task(wire.exchange([(b"BLPOP", b"test-wire:nothing", b"1"), (b"ECHO", b"late")]))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        assert await wire.exchange([(b"ECHO", b"mine")]) == [b"mine"]
        assert len(told.identities) == 2


async def test_a_reply_may_come_between_the_cancellation_and_its_handling(redis_url: str) -> None:
    loop, errors = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    async with wire_to(redis_url) as (wire, told):
        await wire.exchange([GET])
        given_up = asyncio.create_task(wire.exchange([(b"ECHO", b"late")]))
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251 - the reply is there before the loop looks for it
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        assert given_up.cancelled()
        assert await wire.exchange([(b"ECHO", b"mine")]) == [b"mine"]
        assert len(told.identities) == 2
    assert errors == []


async def test_those_who_waited_on_a_lost_connection_are_told_and_the_next_gets_a_new_one(redis_url: str) -> None:
    async with wire_to(redis_url) as (wire, told):
        (number,) = await wire.exchange([(b"CLIENT", b"ID")])
        waiting = asyncio.create_task(wire.exchange([(b"BLPOP", b"test-wire:nothing", b"60")]))
        await asyncio.sleep(0)
        with PlainRedis.from_url(redis_url) as plain:
            plain.client_kill_filter(_id=number)
        with pytest.raises(RedisError):
            await waiting
        assert await wire.exchange([(b"ECHO", b"again")]) == [b"again"]
        assert len(told.identities) == 2


async def test_an_error_among_the_replies_is_only_its_own_commands(redis_url: str) -> None:
    async with wire_to(redis_url) as (wire, told):
        before, wrong, after = await wire.exchange([(b"ECHO", b"a"), (b"NO-SUCH-COMMAND",), (b"ECHO", b"b")])
        assert (before, after) == (b"a", b"b")
        assert isinstance(wrong, RedisError)
        await wire.exchange([GET])
        assert len(told.identities) == 1


# --- no reply of another server


async def test_a_master_that_took_over_anothers_data_answers_nothing_more_on_a_kept_connection(
    own_server: Start,
) -> None:
    demoted, master = await own_server("demoted"), await own_server("master")
    with PlainRedis.from_url(demoted.url) as was_master, PlainRedis.from_url(master.url) as is_master:
        was_master.set(GET[1], "corrected")
        is_master.set(GET[1], "of before")
        is_master.config_set("repl-diskless-sync-delay", 0)
        async with wire_to(demoted.url) as (wire, told):
            assert await wire.exchange([GET]) == [b"corrected"]
            was_master.replicaof(LOOPBACK, master.port)

            async def taken_over() -> bool:
                return bool(was_master.get(GET[1]) == b"of before")

            await eventually(taken_over, "the demoted master holds the other's data")
            with pytest.raises(RedisError):
                await wire.exchange([GET])
            # A new connection has named the other identity before anything was read through it.
            assert await wire.exchange([GET]) == [b"of before"]
            assert len(set(told.identities)) == 2


async def test_nothing_is_read_on_a_connection_to_a_server_that_is_no_more_vouched_for(redis_url: str) -> None:
    async with wire_to(redis_url) as (wire, told):
        await wire.exchange([GET])
        told.identities.append("another connection led elsewhere")
        await wire.exchange([GET])
    assert len(told.identities) == 3  # it was opened anew, and named its server first


async def test_a_reply_is_refused_if_its_server_lost_the_trust_meanwhile(redis_url: str) -> None:
    async with wire_to(redis_url) as (wire, told):
        await wire.exchange([GET])
        reading = asyncio.create_task(wire.exchange([GET]))
        await asyncio.sleep(0)
        told.identities.append("another connection led elsewhere")
        with pytest.raises(RedisError):
            await reading


# --- servers in between

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def relayed(url: str, listen: Callable[[Serve], Awaitable[asyncio.Server]]) -> AsyncIterator[None]:
    """A server that hands everything on to this Redis."""
    port = int(url.rpartition(":")[2].partition("/")[0])

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # who asks has hung up
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, on = await asyncio.open_connection(LOOPBACK, port)
        # Python 3.11 takes a cancelled handler for a failure of its own.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(copy(reader, on), copy(back, writer))

    server = await listen(serve)
    try:
        yield
    finally:
        server.close()


def certificate_of(folder: Path) -> tuple[Path, Path]:
    """Of this host's own address, signed by itself, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    wanted = f"-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=test -addext subjectAltName=IP:{LOOPBACK}"
    files = ("-out", str(certificate), "-keyout", str(key))
    subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-days", "1", *wanted.split(), *files], check=True, capture_output=True
    )
    return certificate, key
