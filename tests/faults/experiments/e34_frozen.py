"""34: the watcher stands still and MongoDB is well: what is read from MongoDB proves its own age."""

import asyncio
import time
from signal import SIGCONT, SIGSTOP
from typing import Final

from neverstale.ops.http_client import Connection
from tests.faults.rig.experiment import BOUND, Experiment, Outcome, Turn
from tests.faults.rig.load import Load, Shape
from tests.faults.rig.scene import scene

OLD: Final = "older than half a second by their own bound"
YOUNG_SECONDS: Final = 0.5
FROZEN_SECONDS: Final = 3.0
KEYS: Final = 40
DEMANDS: Final = ("no-cache", "max-age=0", "max-age=1", "stale-if-error=0")
PAUSES: Final = (0.01, 0.1, 0.6)
"""Some ask all the time, and some so seldom that nobody has asked for a proof just now."""


async def frozen_watcher(turn: Turn) -> Outcome:
    outcome = Outcome()
    async with scene(turn, outcome, Shape(keys=KEYS)) as stage:
        for _ in turn.each_round(outcome):
            stage.watcher.signal(SIGSTOP)
            began = time.monotonic()
            try:
                async with asyncio.TaskGroup() as group:
                    for number, demand in enumerate(DEMANDS):
                        for turn_, pause in enumerate(PAUSES):
                            reader = stage.load.shape.readers + number * len(PAUSES) + turn_
                            until = began + FROZEN_SECONDS
                            group.create_task(_demand(stage.load, outcome, reader, demand, pause, until))
            finally:
                stage.watcher.signal(SIGCONT)
            await stage.load.recovered(outcome, time.monotonic())
            await stage.load.check(outcome)
    return outcome


async def _demand(load: Load, outcome: Outcome, reader: int, demand: str, pause: float, until: float) -> None:
    """Ask until a moment. What a request itself takes longer than it should is the machine's."""
    connection = await Connection.open(load.urls[0])
    while time.monotonic() < until:
        start = time.monotonic()
        answer = await load.ask(connection, load.random.randrange(KEYS), reader, f"Cache-Control: {demand}")
        took = time.monotonic() - start
        if answer is None:
            break
        status = answer.headers.get("cache-status", "")
        if "detail=mongodb" in status and "collapsed" not in status:
            bound = answer.headers["neverstale-bound"]
            outcome.tally(OLD).note(bound == "unknown" or float(bound) > YOUNG_SECONDS + took, status, bound)
        await asyncio.sleep(pause)
    connection.close()


EXPERIMENTS = (
    Experiment(
        number="34",
        fault="the watcher is frozen, MongoDB is well",
        holds="what is read from MongoDB proves to be at most half a second old, and that is true",
        run=frozen_watcher,
        controls={"reads of MongoDB prove their age": OLD, "the bound is ignored": BOUND},
        short=1,
        long=20,
        long_controls=("the bound is ignored",),
    ),
)
