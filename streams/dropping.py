"""Writing to our own collections while the database that they lie in is being dropped."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from pymongo.errors import OperationFailure

DROP_PENDING: Final = 215
"""DatabaseDropPending: for a moment nothing can be made in a database that is being dropped."""
PATIENCE_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.02


async def unless_dropping(write: Callable[[], Awaitable[object]]) -> None:
    """Write as soon as that is possible. The stream itself tells of the drop, and where to go on behind it; giving it
    up for a refused write would lose that position."""
    deadline = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            await write()
            return
        except OperationFailure as error:
            if error.code != DROP_PENDING or monotonic() > deadline:
                raise
        await asyncio.sleep(PAUSE_SECONDS)
