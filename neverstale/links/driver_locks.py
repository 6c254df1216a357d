"""The driver's locks on Python 3.11, where a client could hang for good.

While no server can be used, PyMongo's tasks wait for a change of the topology by `asyncio.wait_for(condition.wait(),
0.5)`, holding the topology's lock before and after. Python 3.11's `wait_for` lets `condition.wait()` run as a task of
its own. Somebody who is cancelled (by `asyncio.timeout`, say) when that half second has run out, and while that task
still waits for the lock, goes away without waiting for it and gives back a lock that he does not have; then the task
takes the lock, and nobody ever gives it back. From then on the client answers nothing, whatever the servers do. From
Python 3.12 on nothing runs as a task of its own, and so it is here.
Source: `asyncio/tasks.py`, `wait_for` and `_cancel_and_wait`; `pymongo/lock.py`, `_async_cond_wait`.
"""

import asyncio
import sys
from collections.abc import Awaitable
from typing import TypeVar

import pymongo.lock

T = TypeVar("T")


async def wait_for(awaited: Awaitable[T], timeout: float | None) -> T:
    """As `asyncio.wait_for` from Python 3.12 on."""
    async with asyncio.timeout(timeout):
        return await awaited


def mend() -> None:
    """May be called again."""
    if sys.version_info < (3, 12):
        setattr(pymongo.lock, "wait_for", wait_for)  # noqa: B010 - its own type is narrower
