"""Work that goes on beside a block."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final

AGAIN_SECONDS: Final = 1.0
"""A client may lose a cancellation (`neverstale.role.cancellation`), so it is said again."""


@contextlib.asynccontextmanager
async def beside(*work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """All of it runs until the block ends, and is then cancelled; how it ended is nobody's concern."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        while going := [task for task in tasks if not task.done()]:
            for task in going:
                task.cancel()
            await asyncio.wait(going, timeout=AGAIN_SECONDS)
        await asyncio.gather(*tasks, return_exceptions=True)
