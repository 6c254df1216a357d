"""Cancellations that a client swallowed."""

import asyncio

import pytest

from neverstale.role import cancellation


async def swallowing(done: asyncio.Event) -> None:
    """A client that turns the cancellation of its caller into a result."""
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        done.set()


async def test_a_cancellation_that_was_swallowed_is_heeded() -> None:
    swallowed = asyncio.Event()

    async def work() -> None:
        while True:
            await swallowing(swallowed)
            cancellation.heed()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert swallowed.is_set()


async def test_without_a_cancellation_nothing_happens() -> None:
    cancellation.heed()
