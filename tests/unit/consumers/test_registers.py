"""When registers are established: the registers' keeper against a cache and a clock that may be away."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from neverstale.consumers.registers import Registers
from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.redis.corrections import Corrections, Invalidated
from neverstale.role.service import Health
from tests.support.waiting import eventually


class UnknowingCache:
    """A Redis all of whose registers are unknown."""

    names = Names("ns")

    def __init__(self) -> None:
        self.established = 0

    async def establish(self, collections: Sequence[str], now: Callable[[], Awaitable[int]]) -> int:
        await now()
        self.established += 1
        return 1

    async def forget_false(self, collections: Sequence[str], now: Callable[[], Awaitable[int]]) -> int:
        return 0


class Clock:
    """MongoDB's time; may be away."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0

    async def now(self) -> int:
        self.asked += 1
        if self.away:
            raise Outage("mongodb", "away")
        return 100


def done(unknown: bool) -> Invalidated:
    return Invalidated("", b"", unknown, "A")


@contextmanager
def keeping(cache: UnknowingCache, clock: Clock, health: Health) -> Iterator[Registers]:
    registers = Registers(cast("Corrections", cache), ["items"], clock.now, health)
    task = asyncio.create_task(registers.keep_known())
    try:
        yield registers
    finally:
        task.cancel()


async def test_registers_are_looked_after_at_the_start_and_when_a_batch_meets_unknown_ones() -> None:
    cache = UnknowingCache()
    with keeping(cache, Clock(), Health()) as registers:
        await eventually(lambda: true(cache.established == 1), "registers were looked after at the start")
        registers.note(done(unknown=True))
        await eventually(lambda: true(cache.established == 2), "registers were looked after again")
        registers.note(done(unknown=False))
        await asyncio.sleep(0)
    assert cache.established == 2


async def test_without_mongodb_registers_stay_unknown_and_it_is_asked_again() -> None:
    cache, clock, health = UnknowingCache(), Clock(), Health()
    clock.away = True
    with keeping(cache, clock, health):
        await eventually(lambda: true(clock.asked >= 2), "MongoDB was asked again")
        assert cache.established == 0
        assert health.parts == {"mongodb": "away"}
        clock.away = False
        await eventually(lambda: true(health.ready), "the role is ready")
    assert cache.established == 1


async def true(condition: bool) -> bool:
    return condition
