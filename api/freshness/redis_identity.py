"""Connections to Redis that know which Redis they lead to."""

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from neverstale.redis.wire import Wire, ask_identity


def tell_identity(redis: Redis, opened: Callable[[str], None]) -> None:
    """Call `opened` with the identity of the server behind each new connection, before its first command.

    The pool replaces a broken connection silently, perhaps by one to a server that took over.
    """

    async def on_connect(connection: Any) -> None:
        await connection.on_connect()
        opened(await ask_identity(connection))

    redis.connection_pool.connection_kwargs["redis_connect_func"] = on_connect


def reconnection(redis: Redis, wire: Wire) -> Callable[[], Awaitable[None]]:
    """Close the wire and idle connections now, and busy ones after use."""

    pool: Any = redis.connection_pool

    async def reconnect() -> None:
        wire.close()
        await pool.update_active_connections_for_reconnect()
        await pool.disconnect(inuse_connections=False)

    return reconnect
