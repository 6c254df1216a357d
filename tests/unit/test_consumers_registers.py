"""When watermarks may be written, and on which Redis: the registers' keeper against a cache that moves."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from consumers.registers import Registers
from neverstale.cache import Cache, Invalidated
from neverstale.errors import Outage
from neverstale.service import Health
from tests.waiting import eventually


class MovingCache:
    """Which Redis answers, which one was made good before, and what was asked of it."""

    def __init__(self, here: str = "A", held: str | None = None) -> None:
        self.here = here
        self.held = held
        self.adopted: list[tuple[str, int]] = []
        self.established = 0

    async def identity(self) -> tuple[str, str | None]:
        return self.here, self.held

    async def adopt(self, collections: Sequence[str], present: int, seen: str | None) -> str:
        self.adopted.append((self.here, present))
        self.held = self.here
        return self.here

    async def establish(self, collections: Sequence[str], now: Callable[[], Awaitable[int]]) -> int:
        self.established += 1
        return 0


class Clock:
    """MongoDB's time; may be away, and may take as long as a test wants."""

    def __init__(self) -> None:
        self.time = 100
        self.away = False
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = 0

    async def now(self) -> int:
        self.asked += 1
        if self.away:
            raise Outage("mongodb", "away")
        answer = self.time
        await self.go_on.wait()
        return answer


def done(identity: str, unknown: bool = False) -> Invalidated:
    return Invalidated("", b"", unknown, identity)


async def begun(cache: MovingCache, clock: Clock, health: Health | None = None) -> Registers:
    registers = Registers(cast("Cache", cache), ["items"], clock.now, health or Health())
    await registers.begin()
    return registers


@contextmanager
def keeping(registers: Registers) -> Iterator[None]:
    task = asyncio.create_task(registers.keep_good())
    try:
        yield
    finally:
        task.cancel()


async def test_a_redis_that_was_made_good_before_needs_no_voiding() -> None:
    cache = MovingCache("A", held="A")
    registers = await begun(cache, Clock())
    assert registers.verified == "A"
    with keeping(registers):
        await eventually(lambda: true(cache.established > 0), "registers were looked after")
    assert cache.adopted == []


async def test_a_new_redis_is_voided_before_any_watermark() -> None:
    cache = MovingCache("A")
    registers = await begun(cache, Clock())
    assert registers.verified is None
    with keeping(registers):
        await eventually(lambda: true(registers.verified == "A"), "the Redis was adopted")
    assert cache.adopted == [("A", 100)]


async def test_a_redis_that_another_consumer_has_adopted_is_voided_once_more() -> None:
    # The other one knows nothing of what we applied to the Redis before.
    cache, clock = MovingCache("A", held="A"), Clock()
    registers = await begun(cache, clock)
    cache.here = cache.held = "B"
    registers.note(done("B"))
    assert registers.verified is None
    with keeping(registers):
        await eventually(lambda: true(registers.verified == "B"), "the Redis was adopted")
    assert cache.adopted == [("B", 100)]


async def test_a_batch_that_went_astray_makes_the_redis_before_and_after_it_void() -> None:
    cache, clock = MovingCache("A", held="A"), Clock()
    registers = await begun(cache, clock)
    registers.note(done("B"))
    registers.note(done("A"))
    assert registers.verified is None


async def test_a_redis_is_not_good_when_a_batch_went_elsewhere_while_it_was_adopted() -> None:
    cache, clock = MovingCache("A"), Clock()
    registers = await begun(cache, clock)
    clock.go_on.clear()
    with keeping(registers):
        await eventually(lambda: true(clock.asked > 0), "the present was asked for")
        clock.time = 200
        registers.note(done("B"))  # a batch later than the present that was asked for
        registers.note(done("A"))
        clock.go_on.set()
        await eventually(lambda: true(registers.verified == "A"), "the Redis was adopted")
    assert [present for _, present in cache.adopted] == [100, 200]


async def test_without_mongodb_nothing_is_verified_and_it_is_asked_again() -> None:
    cache, clock, health = MovingCache("A"), Clock(), Health()
    clock.away = True
    registers = await begun(cache, clock, health)
    with keeping(registers):
        await eventually(lambda: true(clock.asked >= 2), "MongoDB was asked again")
        assert registers.verified is None
        assert health.parts == {"mongodb": "away"}
        clock.away = False
        await eventually(lambda: true(registers.verified == "A"), "the Redis was adopted")
        await eventually(lambda: true(health.ready), "the role is ready")


async def test_unknown_registers_are_established_when_a_batch_meets_them() -> None:
    cache = MovingCache("A", held="A")
    registers = await begun(cache, Clock())
    with keeping(registers):
        await eventually(lambda: true(cache.established == 1), "registers were looked after at the start")
        registers.note(done("A", unknown=True))
        await eventually(lambda: true(cache.established == 2), "registers were looked after again")
        registers.note(done("A"))
        await asyncio.sleep(0)
    assert cache.established == 2


async def true(condition: bool) -> bool:
    return condition
