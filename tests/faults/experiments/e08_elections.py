"""8: the primary steps down or is killed, again and again."""

import asyncio
import contextlib
import time

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from neverstale.ops.stack.mongod import ReplicaSet
from neverstale.ops.stack.process import RunningProcess
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.scene import scene


async def depose(turn: Turn) -> Outcome:
    outcome, members = Outcome(), await turn.bench.replica_set()
    await members.until_serving()
    async with scene(turn, outcome, mongo_uri=members.uri) as stage:
        for round_ in turn.each_round(outcome):
            await asyncio.sleep(stage.load.random.uniform(0.2, 0.6))
            primary = await members.primary()
            assert primary is not None
            began = time.monotonic()
            if round_ % 2:
                primary.kill()
                await _led(members)
                await primary.restart(0)
            else:
                await _step_down(primary)
                await _led(members)
            await members.until_serving()
            await stage.load.recovered(outcome, began)
            await stage.load.check(outcome)
    return outcome


async def _step_down(primary: RunningProcess) -> None:
    uri = f"mongodb://127.0.0.1:{primary.ports[0]}/?directConnection=true"
    async with AsyncMongoClient[dict[str, object]](uri) as client:
        with contextlib.suppress(PyMongoError):  # it may close the connection on the way
            await client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=2)


async def _led(members: ReplicaSet) -> None:
    async with asyncio.timeout(30):
        while await members.primary() is None:  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(0.05)


EXPERIMENTS = (
    Experiment(
        number="8",
        fault="the primary steps down, or is killed, under load",
        holds="the stream goes on and nothing is lost",
        run=depose,
        controls={"no outer retry": STALE},
        short=2,
        long=30,
        long_controls=("no outer retry",),
    ),
)
