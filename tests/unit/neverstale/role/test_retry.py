"""Doing a thing again."""

import asyncio
from itertools import islice

import pytest

from neverstale.errors import DeadLetter, Outage, Retry
from neverstale.role.retry import LONGEST_PAUSE_SECONDS, Unwanted, Wanted, forever, pauses, until_done


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


async def test_what_waits_by_itself_is_done_again_at_once() -> None:
    times = 0

    async def work() -> None:
        nonlocal times
        times += 1
        if times == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await forever(work)


class Trying:
    """Work that fails as often as it is told, and who is told of it."""

    def __init__(self, failures: int, pause: float | None = 0.0) -> None:
        self.failures = failures
        self.pause = pause
        self.waits: list[str] = []

    async def work(self) -> str:
        if self.failures:
            self.failures -= 1
            raise Outage("redis", f"{self.failures} to come")
        return "done"

    def waited(self, error: Retry) -> float | None:
        self.waits.append(str(error))
        return self.pause


@pytest.mark.parametrize("pause", [0.0, None])
async def test_what_may_succeed_later_is_tried_until_it_does(pause: float | None) -> None:
    trying = Trying(2, pause)
    assert await until_done(trying.work, Wanted(), trying.waited) == "done"
    assert trying.waits == ["redis is unavailable: 1 to come", "redis is unavailable: 0 to come"]


async def test_what_nobody_wants_is_tried_once() -> None:
    wanted = Wanted()
    wanted.end()
    assert await until_done(Trying(0).work, wanted, Trying(0).waited) == "done"
    trying = Trying(9)
    with pytest.raises(Unwanted):
        await until_done(trying.work, wanted, trying.waited)
    assert trying.failures == 8


async def test_a_failure_that_time_does_not_mend_is_raised() -> None:
    async def work() -> None:
        raise DeadLetter("format", "9")

    with pytest.raises(DeadLetter):
        await until_done(work, Wanted(), Trying(0).waited)


async def test_a_long_pause_ends_with_the_role() -> None:
    stop = asyncio.Event()
    trying = Trying(1, pause=60.0)
    task = asyncio.create_task(until_done(trying.work, Wanted(stop), trying.waited))
    await asyncio.sleep(0)
    stop.set()
    with pytest.raises(Unwanted):
        await asyncio.wait_for(task, 5)


async def test_a_long_pause_notices_that_its_purpose_is_gone() -> None:
    wanted, trying = Wanted(), Trying(1, pause=60.0)
    task = asyncio.create_task(until_done(trying.work, wanted, trying.waited))
    await asyncio.sleep(0)
    wanted.end()
    with pytest.raises(Unwanted):
        await asyncio.wait_for(task, 5)


async def test_what_is_tried_again_heeds_a_cancellation_that_was_swallowed() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            raise Outage("redis", "the client makes this of it") from None

    task = asyncio.create_task(until_done(work, Wanted(), lambda _: 0.0))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
