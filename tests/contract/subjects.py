"""What runs the scripts: the in-memory Redis and real ones, behind one face."""

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, cast

from redis import Redis

from neverstale.redis.scripts import Name, scripts
from tests.support.lua_redis import Argument, LuaRedis

PASS_SECONDS = 5.0
UNTOLD = (b"", b"", b"")
"""Who sets the watermark tells no coverage."""


class Header(NamedTuple):
    """An entry, cut as the table in `neverstale.redis.entries` says."""

    state: bytes
    touched: bytes
    body_kind: bytes
    version: bytes
    body_version: bytes
    token: bytes
    lease_end: bytes
    digest: bytes
    etag: bytes
    body: bytes


_CUTS = (0, 1, 2, 3, 19, 35, 51, 64, 80, 96, None)


def header(raw: bytes | None) -> Header:
    assert raw is not None, "the entry is missing"
    return Header(*(raw[start:end] for start, end in pairwise(_CUTS)))


class Subject(Protocol):
    """One Redis under test. `run` raises `redis.exceptions.ResponseError` where a script fails."""

    def run(self, script: Name, keys: Sequence[bytes], *args: Argument) -> Any: ...

    def command(self, *arguments: Argument) -> Any: ...

    def hash(self, key: bytes) -> dict[bytes, bytes]: ...

    def now_ms(self) -> int:
        """Redis's clock, which leases are counted by."""

    def let_pass(self, ms: int) -> None:
        """Return when Redis's clock has moved by at least this much."""


class InMemory:
    def __init__(self) -> None:
        self.redis = LuaRedis()

    def run(self, script: Name, keys: Sequence[bytes], *args: Argument) -> Any:
        return self.redis.run(script, keys, args)

    def command(self, *arguments: Argument) -> Any:
        return self.redis.command(*arguments)

    def hash(self, key: bytes) -> dict[bytes, bytes]:
        return self.redis.hash(key)

    def now_ms(self) -> int:
        return self.redis.now_ms

    def let_pass(self, ms: int) -> None:
        self.redis.now_ms += ms


class RealRedis:
    """Loads the scripts as the cache does: with flags where the server knows them."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        version: str = redis.info("server")["redis_version"]
        self.has_flags = int(version.split(".")[0]) >= 7
        self._scripts = scripts(flags=self.has_flags)
        for script in self._scripts.values():
            assert redis.script_load(script.source) == script.sha

    def run(self, script: Name, keys: Sequence[bytes], *args: Argument) -> Any:
        return self.redis.evalsha(self._scripts[script].sha, len(keys), *keys, *args)

    def command(self, *arguments: Argument) -> Any:
        answer = self.redis.execute_command(*arguments)  # type: ignore[no-untyped-call]
        if isinstance(answer, bool):  # redis-py's reading of a status or a number
            return b"OK" if arguments[0] == "SET" else int(answer)
        return answer

    def hash(self, key: bytes) -> dict[bytes, bytes]:
        return cast("dict[bytes, bytes]", self.redis.hgetall(key))

    def now_ms(self) -> int:
        seconds, microseconds = self.redis.time()
        return seconds * 1000 + microseconds // 1000

    def let_pass(self, ms: int) -> None:
        until, deadline = self.now_ms() + ms, time.monotonic() + PASS_SECONDS
        while self.now_ms() <= until:
            assert time.monotonic() < deadline, "Redis's clock stands still"
