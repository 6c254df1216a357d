"""4 and 5: fills are paused between their read of MongoDB and their write to Redis.

Each key is one forced race. In the gap the document changes and the change is applied; or the change is applied
only when the fill is done. In 5 the entry with its lease also vanishes in the gap, as an eviction, an expiry or a
flush does it, before or after the change is applied, and a second reader may come in between.
"""

from collections.abc import Sequence
from typing import Literal

from neverstale.keys import KeyValue
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.reading import Reading, Things, reading, things

BATCH = 400
Loss = Literal["evict", "expire", "flush"]
LOSSES: tuple[Loss, ...] = ("evict", "expire", "flush")


async def pause_fills(turn: Turn) -> Outcome:
    return await _races(turn, losing=False)


async def lose_leases(turn: Turn) -> Outcome:
    return await _races(turn, losing=True)


async def _races(turn: Turn, *, losing: bool) -> Outcome:
    outcome, bench, name = Outcome(), turn.bench, turn.bench.name("races")
    mongo, redis = await bench.mongod(), await bench.redis()
    dice = turn.random
    async with things(mongo.uri, name) as written, reading(mongo.uri, redis.url, name) as here:
        for round_ in range(turn.rounds):
            keys = range(round_ * BATCH, (round_ + 1) * BATCH)
            await here.apply([], await written.insert(keys))
            race = _Race(here, written, dice.choice(LOSSES) if losing else None, dice.random() < 0.5)
            here.loader.gap = race.gap
            await here.read(keys)
            await race.after()
            written.judge(keys, await here.served(keys), outcome.tally(STALE))
    return outcome


class _Race:
    """What happens in one gap, and after it."""

    def __init__(self, here: Reading, written: Things, loss: Loss | None, second_reader: bool) -> None:
        self._here = here
        self._written = written
        self._loss = loss
        self._second_reader = second_reader
        self._late: list[int] = []
        self._version = 0

    async def gap(self, keys: Sequence[KeyValue]) -> None:
        """A third of the changes is applied before the loss, a third after it, a third when all is done."""
        self._here.loader.gap = _nothing
        numbers = [int(str(key)) for key in keys]
        soon, later, self._late = numbers[::3], numbers[1::3], numbers[2::3]
        self._version = await self._written.change(numbers)
        await self._here.apply(soon, self._version)
        await self._lose(numbers)
        await self._here.apply(later, self._version)
        if self._second_reader and self._loss:
            # Not through the same reader: there these keys are in flight, and would only be waited for.
            await self._here.cache.lease(
                "things", [self._here.key(key) for key in numbers[::2]], 0, 60_000, self._here.source.shows
            )

    async def after(self) -> None:
        await self._here.apply(self._late, self._version)

    async def _lose(self, keys: Sequence[int]) -> None:
        entries = [self._here.key(key) for key in keys]
        match self._loss:
            case "evict":
                await self._here.redis.delete(*entries)
            case "expire":
                pipeline = self._here.redis.pipeline(transaction=False)
                for entry in entries:
                    pipeline.pexpire(entry, 0)
                await pipeline.execute()
            case "flush":
                await self._here.redis.flushall()


async def _nothing(_: Sequence[KeyValue]) -> None: ...


EXPERIMENTS = (
    Experiment(
        number="4",
        fault="fills are paused between read and write, the document changes in the gap",
        holds="the fill is refused",
        run=pause_fills,
        controls={"a plain SET fills": STALE},
        short=10,
        long=300,
    ),
    Experiment(
        number="5",
        fault="as 4, and the entry is evicted, expires or is flushed in the gap",
        holds="the fill is refused",
        run=lose_leases,
        controls={"a missing entry counts as fresh": STALE},
        short=10,
        long=300,
    ),
)
