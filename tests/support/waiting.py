"""Waiting for a condition with a deadline, instead of sleeping for a guessed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import psutil

POLL_SECONDS = 0.02
POLL_SHARE = 0.1
"""Of what has been waited for already: to look ever again costs others the time that they would need."""
LONGEST_POLL_SECONDS = 0.1


def is_alive(process: psutil.Process) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def runs(process: psutil.Process, word: str) -> bool:
    """Whether its command has this in it."""
    try:
        return word in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has ended since it was listed
        return False


async def eventually(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 10.0) -> None:
    """Return as soon as `holds` answers True; fail with `what` after `seconds`."""
    started = time.monotonic()
    while not await holds():
        waited = time.monotonic() - started
        assert waited < seconds, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(min(max(POLL_SECONDS, waited * POLL_SHARE), LONGEST_POLL_SECONDS))
