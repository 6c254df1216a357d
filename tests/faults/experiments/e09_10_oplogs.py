"""9 and 10: the oplog rolls over, before or behind the stored position."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from neverstale.versions import from_timestamp
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.pipeline import metrics
from tests.faults.rig.scene import scene

UNNOTICED = "losses that were not noticed"
LOST = "positions lost"
NOISE_BYTES = 400_000
NOISES = 10
ROLL_SECONDS = 60.0
CAPPED_POSITION_LOST = 136


async def roll_over_position(turn: Turn) -> Outcome:
    """The watcher is away while the oplog rolls over its position."""
    outcome, mongod = Outcome(), await turn.bench.tiny_mongod()
    async with scene(turn, outcome, mongo_uri=mongod.uri) as stage:
        for _ in turn.each_round(outcome):
            stage.watcher.kill()
            for key in stage.load.random.sample(range(stage.load.shape.keys), 50):
                await stage.load.change(key)
            await stage.load.pause()
            await roll_over(mongod.uri, await _now(mongod.uri))
            began = time.monotonic()
            await stage.watcher.restart(0)
            await stage.load.recovered(outcome, began)
            lost = (await metrics(stage.watcher))["neverstale_position_lost_total"]
            outcome.tally(UNNOTICED).note(lost < 1, "position_lost", lost)
            await stage.load.check(outcome)
    return outcome


async def roll_over_quietly(turn: Turn) -> Outcome:
    """Nothing changes in what is watched, while a neighbour's writes roll the oplog over; the watcher sees that."""
    outcome, mongod = Outcome(), await turn.bench.tiny_mongod()
    async with scene(turn, outcome, mongo_uri=mongod.uri) as stage:
        for _ in turn.each_round(outcome):
            await stage.load.pause()

            async def seen() -> None:
                # A neighbour may be noisier than any watcher is fast; that is experiment 9.
                await stage.pipe.passed(await _now(mongod.uri), ROLL_SECONDS)

            await roll_over(mongod.uri, await _now(mongod.uri), seen)
            stage.watcher.kill()
            died = time.monotonic()
            for key in stage.load.random.sample(range(stage.load.shape.keys), 50):
                await stage.load.change(key)
            await stage.watcher.restart(0)
            await stage.load.recovered(outcome, died)
            lost = (await metrics(stage.watcher))["neverstale_position_lost_total"]
            outcome.tally(LOST).note(lost > 0, "position_lost", lost)
            await stage.load.check(outcome)
    return outcome


async def roll_over(uri: str, version: int, rest: Callable[[], Awaitable[None]] | None = None) -> None:
    """Write until the oplog begins behind a version, and `rest` after every few megabytes."""
    deadline = time.monotonic() + ROLL_SECONDS
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        noise, number = client.noise.noise, 0
        while await _oldest(client) <= version:
            assert time.monotonic() < deadline, f"the oplog did not roll over within {ROLL_SECONDS} s"
            number += 1
            documents = [{"_id": i, "noise": f"{number % 10}" * NOISE_BYTES} for i in range(NOISES)]
            await noise.delete_many({})
            await noise.insert_many(documents)
            if rest is not None:
                await rest()


async def _oldest(client: AsyncMongoClient[dict[str, Any]]) -> int:
    """0: it was cut while we looked."""
    try:
        first = await client.local["oplog.rs"].find_one(sort=[("$natural", 1)])
    except OperationFailure as error:
        if error.code == CAPPED_POSITION_LOST:
            return 0
        raise
    assert first is not None
    return from_timestamp(first["ts"])


async def _now(uri: str) -> int:
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        return from_timestamp((await client.admin.command("ping"))["operationTime"])


EXPERIMENTS = (
    Experiment(
        number="9",
        fault="the oplog rolls over the position of a watcher that is away",
        holds="the floor is raised: no loop, no gap",
        run=roll_over_position,
        controls={"resume from now, silently": STALE},
        short=1,
        long=20,
    ),
    Experiment(
        number="10",
        fault="a noisy neighbour rolls the oplog over while the watched collection is quiet; the watcher restarts",
        holds="the stored position is still valid",
        run=roll_over_quietly,
        controls={"tokens only from changes": LOST},
        short=1,
        long=20,
    ),
)
