"""11: collections are dropped, renamed and made again under load."""

import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.load import Load
from tests.faults.rig.pipeline import RESOURCE, metrics
from tests.faults.rig.scene import scene

LOST = "positions lost"


async def drop(load: Load, session: Any) -> None:
    await load.client[load.pipeline.name].drop_collection(RESOURCE, session=session)


async def drop_database(load: Load, session: Any) -> None:
    await load.client.drop_database(load.pipeline.name, session=session)


async def rename_away(load: Load, session: Any) -> None:
    await load.collection.rename("elsewhere", session=session, dropTarget=True)


async def rename_onto(load: Load, session: Any) -> None:
    """Another collection, which nobody watches, takes the place of ours; its documents are one revision newer."""
    spare = load.client[load.pipeline.name]["spare"]
    await spare.insert_many(
        [{"_id": key, "rev": load.writes.of(key).latest_begun(inf)} for key in range(load.shape.keys)]
    )
    await spare.rename(RESOURCE, session=session, dropTarget=True)


Act = Callable[[Load, Any], Awaitable[None]]
ACTS: tuple[tuple[Act, bool], ...] = ((drop, True), (rename_onto, False), (drop_database, True), (rename_away, True))
"""What is done, and whether it removes the documents."""


async def change_namespaces(turn: Turn) -> Outcome:
    outcome = Outcome()
    async with scene(turn, outcome) as stage:
        for round_ in turn.each_round(outcome):
            act, removes = ACTS[round_ % len(ACTS)]
            await _perform(stage.load, act, removes)
            began = time.monotonic()
            await stage.load.recovered(outcome, began)
            await stage.load.check(outcome)
        lost = (await metrics(stage.watcher))["neverstale_position_lost_total"]
        for number in range(turn.rounds):
            outcome.tally(LOST).note(number < lost, "position_lost", lost)
    return outcome


async def _perform(load: Load, act: Act, removes: bool) -> None:
    """All keys take part in one write."""
    await load.pause()
    for key in load.random.sample(range(load.shape.keys), 20):
        await load.change(key, removal=False)  # so that there is something to drop, whatever was done before
    keys = range(load.shape.keys)
    now = time.monotonic()
    revisions = [load.writes.begin(key, now, removal=removes) for key in keys]
    async with load.client.start_session() as session:
        await act(load, session)
        for key, revision in zip(keys, revisions, strict=True):
            load.acknowledge(key, revision, session)


EXPERIMENTS = (
    Experiment(
        number="11",
        fault="drop, rename onto and away, dropDatabase, and new collections, under load",
        holds="the namespace is invalidated and watching goes on",
        run=change_namespaces,
        controls={"resumeAfter": LOST, "drops are not told": STALE},
        short=4,
        long=80,
        long_controls=("resumeAfter",),
    ),
)
