"""29: one partition of four stands still: the documents of the others keep their bounds."""

import asyncio
import time
from signal import SIGCONT, SIGSTOP
from typing import Final

from neverstale.ops.stack.role import RunningRole
from tests.faults.rig.experiment import BOUND, Experiment, Outcome, Turn
from tests.faults.rig.frozen import AGED, KEYS, PARTITIONS, SETTLED_SECONDS, others_keep_their_bounds
from tests.faults.rig.load import Shape
from tests.faults.rig.pipeline import Pipeline, metrics
from tests.faults.rig.scene import Scene, scene

CELL: Final = "a partition vouches for its own documents"


async def frozen_partition(turn: Turn) -> Outcome:
    outcome = Outcome()
    patient = {"KAFKA__SESSION_TIMEOUT_MS": "30000"}  # the frozen consumer keeps its partition
    async with scene(turn, outcome, Shape(keys=KEYS), consumer=patient, cells="partition") as stage:
        others = [await stage.pipe.start("consumer", **patient) for _ in range(PARTITIONS - 1)]
        for _ in turn.each_round(outcome):
            await _each_has_one(stage, others)
            others[0].signal(SIGSTOP)
            try:
                await asyncio.sleep(SETTLED_SECONDS)
                frozen = await _frozen(stage.pipe)
                await others_keep_their_bounds(stage.load, outcome, frozen, "Accept: application/json")
            finally:
                others[0].signal(SIGCONT)
            await stage.load.recovered(outcome, time.monotonic())
            await stage.load.check(outcome)
    return outcome


async def _each_has_one(stage: Scene, others: list[RunningRole]) -> None:
    """Every consumer has joined: what is written is applied by all of them."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        applied = [await metrics(role) for role in (stage.consumer, *others)]
        if all(one.get("neverstale_records_applied_total", 0) > 0 for one in applied):
            return
        await asyncio.sleep(0.2)
    raise TimeoutError("not every consumer has a partition")


async def _frozen(pipe: Pipeline) -> set[int]:
    """The partitions whose watermarks stand still."""
    before = await pipe.by_partition()
    await asyncio.sleep(1.0)
    after = await pipe.by_partition()
    return {partition for partition, version in after.items() if version == before.get(partition)}


EXPERIMENTS = (
    Experiment(
        number="29",
        fault="one partition of four is frozen",
        holds="documents of the other three keep their bounds; those of the frozen one say how old they are",
        run=frozen_partition,
        controls={CELL: AGED, "the bound is ignored": BOUND},
        short=1,
        long=20,
        long_controls=(CELL, "the bound is ignored"),
    ),
)
