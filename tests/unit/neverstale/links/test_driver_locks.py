"""The driver's topology lock: whoever goes away while it waits leaves it as it was."""

import asyncio

import pymongo.lock

from neverstale.links import driver_locks


async def test_a_task_that_is_cancelled_when_its_wait_is_over_leaves_the_lock_to_the_others() -> None:
    driver_locks.mend()
    lock = pymongo.lock._async_create_lock()
    condition = pymongo.lock._async_create_condition(lock)
    waits, may_end = asyncio.Event(), asyncio.Event()

    async def select() -> None:
        """As a task that looks for a server."""
        async with lock:
            waits.set()
            await pymongo.lock._async_cond_wait(condition, 0.01)

    async def hold() -> None:
        async with lock:
            await may_end.wait()
            selecting.cancel()

    selecting = asyncio.create_task(select())
    await waits.wait()
    holding = asyncio.create_task(hold())
    await asyncio.sleep(0.1)  # the wait is over by then, and wants the lock again, which the other one has
    may_end.set()
    await asyncio.wait({selecting, holding})
    assert selecting.cancelled() and holding.exception() is None
    async with asyncio.timeout(5):
        await lock.acquire()
