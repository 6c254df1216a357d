"""aiokafka's first connection, which a start that is given up would leave open.

`AIOKafkaClient.bootstrap` asks the first broker that answers for metadata. Whoever is cancelled meanwhile (by a
deadline, or because his role stops) leaves behind a connection that nothing names any more but the traceback, and it
stays open until the garbage is collected, which our roles do seldom. So it is closed here.
Source: `aiokafka/client.py`, `bootstrap`, of 0.14: only errors of Kafka and time-outs close it.
"""

from contextvars import ContextVar
from typing import Any, Final

from aiokafka import client

_BOOTSTRAP: Final[Any] = client.AIOKafkaClient.bootstrap
_CREATE: Final[Any] = client.create_conn


class _Attempt:
    """A start. What it starts besides outlives it, and is none of ours."""

    def __init__(self) -> None:
        self.opened: list[Any] | None = []


_ATTEMPT: ContextVar[_Attempt | None] = ContextVar("attempt", default=None)


async def bootstrap(self: client.AIOKafkaClient) -> None:
    """As aiokafka's, and leaves nothing open if it fails."""
    attempt = _Attempt()
    token = _ATTEMPT.set(attempt)
    try:
        await _BOOTSTRAP(self)
    except BaseException:
        for connection in attempt.opened or ():
            connection.close()
        raise
    finally:
        attempt.opened = None
        _ATTEMPT.reset(token)


async def _create(*where: Any, **how: Any) -> Any:
    connection = await _CREATE(*where, **how)
    attempt = _ATTEMPT.get()
    if attempt is not None and attempt.opened is not None:
        attempt.opened.append(connection)
    return connection


def mend() -> None:
    """May be called again."""
    client.AIOKafkaClient.bootstrap = bootstrap
    client.create_conn = _create
