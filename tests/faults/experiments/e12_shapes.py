"""12: changes of unusual size and shape."""

import time
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.faults.rig.experiment import Experiment, Outcome, Turn
from tests.faults.rig.load import Load, Shape
from tests.faults.rig.pipeline import metrics
from tests.faults.rig.scene import scene

LOST = "positions lost"
BLOB_BYTES = 10_000_000
BIG = 2
"""Keys that hold big documents: the last ones."""
TRANSACTION = 1000
SHAPE = Shape(keys=TRANSACTION + BIG)


async def change_shapes(turn: Turn) -> Outcome:
    outcome = Outcome()
    async with scene(turn, outcome, SHAPE) as stage:
        load = stage.load
        for _ in turn.each_round(outcome):
            await load.pause()
            began = time.monotonic()
            for key in range(TRANSACTION, TRANSACTION + BIG):
                await _blow_up(load, key)
                await _blow_up(load, key)
            await _transact(load, range(TRANSACTION))
            await _transact(load, [0, 1, 0, 1, 0])
            await load.recovered(outcome, began)
            await load.check(outcome)
        lost = (await metrics(stage.watcher))["neverstale_position_lost_total"]
        outcome.tally(LOST).note(lost > 0, "position_lost", lost)
    return outcome


async def _blow_up(load: Load, key: int) -> None:
    """The second time this is an update from 10 MB to 10 MB, whose event would hold both."""
    async with load.turn([key]), load.client.start_session() as session:
        revision = load.writes.begin(key, time.monotonic())
        change = {"$set": {"rev": revision, "blob": Random(revision).randbytes(8).hex() * (BLOB_BYTES // 16)}}
        await load.collection.update_one({"_id": key}, change, upsert=True, session=session)
        load.acknowledge(key, revision, session)


async def _transact(load: Load, keys: Sequence[int]) -> None:
    """All in one transaction; of a key that comes twice only the last revision is ever seen."""
    begun: list[tuple[int, int]] = []

    async def work(session: Any) -> None:
        for key, revision in begun:
            change = {"$set": {"rev": revision}}
            await load.collection.update_one({"_id": key}, change, upsert=True, session=session)

    async with load.turn(keys), load.client.start_session() as session:
        begun += [(key, load.writes.begin(key, time.monotonic())) for key in keys]
        await session.with_transaction(work)
        for key, revision in begun:
            load.acknowledge(key, revision, session)


EXPERIMENTS = (
    Experiment(
        number="12",
        fault="updates from 10 MB to 10 MB, transactions of 1,000 documents, a document several times in one",
        holds="no loop, every key is invalidated",
        run=change_shapes,
        controls={"bodies are not projected away": LOST},
        short=1,
        long=20,
    ),
)
