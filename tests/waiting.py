"""Waiting for a condition with a deadline, instead of sleeping for a guessed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.02


async def eventually(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 10.0) -> None:
    """Return as soon as `holds` answers True; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(POLL_SECONDS)
