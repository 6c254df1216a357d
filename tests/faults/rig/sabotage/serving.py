"""Serving and stopping."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.faults.rig.sabotage.rules import (
    Patches,
    replaced,
    rule,
)


@rule("reads share a connection and leave replies on it")
def _replies_left() -> Patches:
    """Whoever is cancelled before the reply came leaves it to the next, and nobody looks whose it is."""
    import asyncio

    from redis.exceptions import RedisError

    from neverstale.api.reads.answer import ANYTHING, Answer, Wish
    from neverstale.api.reads.reader import Reader
    from neverstale.redis.entries import HEADER_BYTES

    get = Reader.get
    shared: dict[Reader, list[tuple[Any, asyncio.Lock]]] = {}

    async def careless(self: Reader, source: Any, key: Any, wish: Wish = ANYTHING) -> Answer:
        if self not in shared:
            pool: Any = self._cache._redis.connection_pool
            shared[self] = [(pool.make_connection(), asyncio.Lock()) for _ in range(20)]
        connection, lock = shared[self][0]
        shared[self].append(shared[self].pop(0))
        raw = None
        with contextlib.suppress(RedisError):
            async with lock:
                await connection.connect()
                await connection.send_command("GET", source.locate(key)[0])
                raw = await connection.read_response(disconnect_on_error=False, timeout=10)
        if not raw or raw[:1] != b"D":
            return await get(self, source, key, wish)
        return Answer(raw[HEADER_BYTES:], raw[80:96], 0, 0, "hit", "l2")

    @contextlib.contextmanager
    def closed() -> Iterator[None]:
        """No pool knows these connections, so nobody else closes them."""
        yield
        for connections in shared.values():
            for connection, _ in connections:
                connection._close()

    yield closed()
    yield replaced("neverstale.api.reads.reader:Reader.get", careless)


@rule("the library's time-outs")
def _library_timeouts() -> Patches:
    from redis.asyncio import Redis

    def patient(settings: Any, **_: Any) -> Redis:
        return Redis.from_url(settings.url.get_secret_value())

    yield replaced("neverstale.api.layouts:redis_client", patient)


@rule("a guard that matches paths")
def _guard_matches_paths() -> Patches:
    """A document's path wants a token. Nobody thought of the other ways to ask for one."""
    import re

    from neverstale.api.limits.middleware import Limited

    call = Limited.__call__

    async def naive(self: Limited, scope: Any, receive: Any, send: Any) -> None:
        guarded = scope["type"] == "http" and re.fullmatch("/v1/[a-z]+/[a-z]+", scope["path"])
        await (call(self, scope, receive, send) if guarded else self._app(scope, receive, send))

    yield replaced("neverstale.api.limits.middleware:Limited.__call__", naive)


@rule("heads may take for ever")
def _heads_for_ever() -> Patches:
    yield replaced("neverstale.api.server.deadlines:TimedProtocol._look", lambda self: None)


@rule("no drain")
def _no_drain() -> Patches:
    import asyncio
    import os
    import signal

    def listen(_: asyncio.Event, __: float) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, os._exit, 0)

    yield replaced("neverstale.role.service:listen_for_signals", listen)


@rule("sessions demand nothing")
def _no_demands() -> Patches:
    yield replaced("neverstale.client:Session.headers", {})
