"""One suite, run on the in-memory Redis and on real ones of two generations."""

import secrets
from collections.abc import Iterator

import pytest
from redis import Redis

from tests.contract.subjects import InMemory, RealRedis, Subject

REAL = {"redis": "redis_url", "redis-6.2": "old_redis_url"}


@pytest.fixture
def prefix() -> bytes:
    """Of keys that no other test uses."""
    return f"test{secrets.token_hex(6)}:".encode()


def connect(url: str, prefix: bytes) -> Iterator[RealRedis]:
    with Redis.from_url(url) as redis:
        yield RealRedis(redis)
        for key in redis.scan_iter(match=prefix + b"*", count=1000):
            redis.delete(key)


@pytest.fixture(params=list(REAL))
def real_redis(request: pytest.FixtureRequest, prefix: bytes) -> Iterator[RealRedis]:
    yield from connect(request.getfixturevalue(REAL[request.param]), prefix)


@pytest.fixture(params=["in-memory", *REAL])
def subject(request: pytest.FixtureRequest, prefix: bytes) -> Iterator[Subject]:
    if request.param == "in-memory":
        yield InMemory()
    else:
        yield from connect(request.getfixturevalue(REAL[request.param]), prefix)
