"""20: Redis is out of memory, under each policy."""

from collections.abc import Sequence
from typing import Final

from neverstale.errors import Outage
from neverstale.keys import KeyValue
from neverstale.ops.truth.oracle import Tally
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.reading import Reading, Things, no_gap, reading, things

REFUSED = "invalidations refused"
POLICIES: Final = ("noeviction", "allkeys-lru", "volatile-ttl")
MEMORY: Final = "6mb"
KEYS: Final = 300
BALLAST_BYTES: Final = 4096
BALLASTS: Final = 2000
BALLAST_MS: Final = 3_600_000
"""Entries live long; a marker would live as long as a fill may take."""


async def fill_up(turn: Turn) -> Outcome:
    outcome, bench = Outcome(), turn.bench
    mongo = await bench.mongod()
    for policy in POLICIES:
        name = bench.name("full")
        redis = await bench.new_redis(max_memory=MEMORY, max_memory_policy=policy)
        async with things(mongo.uri, name) as written, reading(mongo.uri, redis.url, name) as here:
            for round_ in turn.each_round(outcome):
                keys = range(round_ * KEYS, (round_ + 1) * KEYS)
                await written.insert(keys)
                pressure = _Pressure(here, written, outcome.tally(REFUSED))
                here.loader.gap = pressure.gap
                await here.read(keys)
                await pressure.apply(keys[::2])
                written.judge(keys, await here.served(keys), outcome.tally(STALE))
                await here.redis.flushall()
                await here.establish()
        redis.kill()
    return outcome


class _Pressure:
    """In the gap between read and fill: the documents change, that is applied, and then memory runs out."""

    def __init__(self, here: Reading, written: Things, refused: Tally) -> None:
        self._here = here
        self._written = written
        self._refused = refused

    async def gap(self, keys: Sequence[KeyValue]) -> None:
        self._here.loader.gap = no_gap
        numbers = [int(str(key)) for key in keys]
        await self._squeeze()
        await self.apply(numbers)
        await self._squeeze()

    async def apply(self, keys: Sequence[int]) -> None:
        try:
            await self._here.apply(keys, await self._written.change(keys))
            self._refused.note(False)
        except Outage as outage:
            self._refused.note(True, outage)

    async def _squeeze(self) -> None:
        """Write until there is no room, whoever has to go for it."""
        pipeline = self._here.redis.pipeline(transaction=False)
        for number in range(BALLASTS):
            pipeline.set(f"ballast:{number}", b"x" * BALLAST_BYTES, px=BALLAST_MS)
        await pipeline.execute(raise_on_error=False)


EXPERIMENTS = (
    Experiment(
        number="20",
        fault="Redis is out of memory: noeviction, allkeys-lru, volatile-ttl",
        holds="invalidations land and nothing is stale",
        run=fill_up,
        controls={"a marker is a key of its own": STALE},
        short=3,
        long=100,
    ),
)
