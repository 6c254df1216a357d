"""Doing a thing again."""

import asyncio
from itertools import islice

import pytest

from neverstale.role.retry import LONGEST_PAUSE_SECONDS, forever, pauses


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_pauses_double_up_to_a_cap(chance: float) -> None:
    found = list(islice(pauses(lambda: chance), 10))
    assert found == sorted(found)
    assert found[-1] == LONGEST_PAUSE_SECONDS * (0.5 + chance / 2)


async def test_work_without_end_heeds_a_cancellation_that_was_swallowed() -> None:
    begun = asyncio.Event()

    async def work() -> float:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return 0.0
        raise AssertionError

    task = asyncio.create_task(forever(work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)


async def test_the_work_says_how_long_to_wait() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def work() -> float:
        times.append(loop.time())
        if len(times) == 3:
            raise ZeroDivisionError
        return 0.05

    with pytest.raises(ZeroDivisionError):
        await forever(work)
    assert times[2] - times[0] >= 0.1
