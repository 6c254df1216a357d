"""39: two watcher groups. The watcher of one stands still; and a collection moves from group to group, while the
consumer that applied it until then stands still, with changes that it has not applied yet."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGSTOP
from typing import Any, Final

from neverstale.ops.http_client import Connection
from neverstale.ops.stack.role import RunningRole
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.load import Load, Shape, under_load
from tests.faults.rig.pipeline import RESOURCE, Pipeline, pipeline
from tests.faults.rig.scene import CONTROL_CONVERGES_SECONDS

DEFAULT: Final = "default"
SECOND: Final = "second"
STAYS: Final = {DEFAULT: "aside", SECOND: "beside"}
"""Of each group, a resource that stays in it."""
CATALOG: Final = """
database = "{database}"

[resources.things]
key_type = "int"

[resources.aside]
key_type = "int"

[resources.beside]
key_type = "int"

[watchers.second]
collections = {collections}
"""
KEYS: Final = 200
FROZEN_SECONDS: Final = 2.5
WIDE_SECONDS: Final = 1.5
UNAPPLIED_SECONDS: Final = 0.5
MOVED_SECONDS: Final = 30.0
OTHERS: Final = "bounds that wait for another group's watcher"
STANDS: Final = "bounds of the group that stands still that do not grow"


@dataclass
class Groups:
    """Two groups, each with a watcher and a consumer of its own, and one API over both."""

    pipe: Pipeline
    load: Load
    watchers: dict[str, RunningRole]
    consumers: dict[str, RunningRole]
    api: RunningRole

    async def freshness(self, resource: str) -> dict[str, Any]:
        with contextlib.suppress(OSError):
            connection = await Connection.open(self.api.url)
            try:
                answer = await connection.get("/v1/freshness", 5)
            finally:
                connection.close()
            if answer.status == 200:
                found: dict[str, Any] = json.loads(answer.body)["resources"][resource]
                return found
        return {"bound": None, "watcher_group": None}

    async def move(self, group: str) -> None:
        """Another catalog, taken up by all that run; returns when answers have a bound again."""
        declare(self.pipe, group)
        self.pipe.consumer_group = consumer_group(self.pipe, group)
        for role in (*self.watchers.values(), *self.consumers.values(), self.api):
            role.signal(SIGHUP)
        deadline = time.monotonic() + MOVED_SECONDS
        while time.monotonic() < deadline:
            found = await self.freshness(RESOURCE)
            if found["watcher_group"] == group and found["bound"] is not None:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{RESOURCE} has no bound {MOVED_SECONDS:.0f} s after it moved to {group}: {found}")


def declare(pipe: Pipeline, group: str) -> None:
    collections = ["beside", *([RESOURCE] if group == SECOND else [])]
    text = CATALOG.format(database=pipe.name, collections=json.dumps(collections))
    Path(pipe.environment["CATALOG"]).write_text(text)


def consumer_group(pipe: Pipeline, group: str) -> str:
    return pipe.name if group == DEFAULT else f"{pipe.name}.{group}"


@contextlib.asynccontextmanager
async def two_groups(turn: Turn, outcome: Outcome, group: str, **api: str) -> AsyncIterator[Groups]:
    """`group`: of the resource that is written and read."""
    async with pipeline(turn.bench, turn.rule, partitions=2) as pipe:
        declare(pipe, group)
        pipe.consumer_group = consumer_group(pipe, group)
        async with asyncio.TaskGroup() as starting:
            watchers = {
                name: starting.create_task(pipe.start("watcher", WATCHER__WATCHES=name)) for name in (DEFAULT, SECOND)
            }
            consumers = {
                name: starting.create_task(pipe.start("consumer", CONSUMER__CONSUMES=name))
                for name in (DEFAULT, SECOND)
            }
            serving = starting.create_task(pipe.start("api", **api))
        shape = Shape(keys=KEYS, converge_seconds=CONTROL_CONVERGES_SECONDS if turn.rule else 30.0)
        running = serving.result()
        uri = pipe.environment["MONGODB__URI"]
        async with under_load(pipe, turn, outcome, uri, [running.url], shape) as load:
            yield Groups(
                pipe,
                load,
                {name: task.result() for name, task in watchers.items()},
                {name: task.result() for name, task in consumers.items()},
                running,
            )


async def several_groups(turn: Turn) -> Outcome:
    outcome, at = Outcome(), SECOND
    async with two_groups(turn, outcome, at) as groups:
        for number in turn.each_round(outcome):
            if number % 2 == 0:
                await _freeze_watcher(groups, outcome, DEFAULT if at == SECOND else SECOND)
            else:
                await _move(groups, outcome, at, to := DEFAULT if at == SECOND else SECOND)
                at = to
    return outcome


async def _freeze_watcher(groups: Groups, outcome: Outcome, group: str) -> None:
    """Of the group that the collection is not in."""
    groups.watchers[group].signal(SIGSTOP)
    began = time.monotonic()
    try:
        while (since := time.monotonic() - began) < FROZEN_SECONDS:
            await _compare(groups, outcome, group, since)
            await asyncio.sleep(0.1)
    finally:
        groups.watchers[group].signal(SIGCONT)
    await groups.load.check(outcome)


async def _compare(groups: Groups, outcome: Outcome, frozen: str, since: float) -> None:
    """What answers say of the group that lives, and what is known of the one that stands still."""
    if since < WIDE_SECONDS:
        return
    stands = (await groups.freshness(STAYS[frozen]))["bound"]
    outcome.tally(STANDS).note(stands is not None and stands < WIDE_SECONDS / 2, f"{stands} s after {since:.2f} s")
    connection = await Connection.open(groups.api.url)
    try:
        for key in groups.load.random.sample(range(KEYS), 20):
            answer = await groups.load.ask(connection, key, groups.load.shape.readers)
            if answer is not None and "hit" in (status := answer.headers.get("cache-status", "")):
                bound = answer.headers["neverstale-bound"]
                outcome.tally(OTHERS).note(bound == "unknown" or float(bound) > WIDE_SECONDS, status, bound)
    finally:
        connection.close()


async def _move(groups: Groups, outcome: Outcome, source: str, to: str) -> None:
    load, frozen = groups.load, groups.consumers[source]
    frozen.signal(SIGSTOP)
    try:
        await asyncio.sleep(UNAPPLIED_SECONDS)  # what is written now, nobody has applied when it moves
        await load.pause()
        await groups.move(to)
        load.gate.set()
        await load.recovered(outcome, time.monotonic())
        await load.check(outcome)
    finally:
        frozen.signal(SIGCONT)
    await load.check(outcome)


EXPERIMENTS = (
    Experiment(
        number="39",
        fault="of two watcher groups one stands still; a collection moves to the other, with changes not applied yet",
        holds="the other group keeps its bounds; what moved is not served before its new group vouches for it",
        run=several_groups,
        controls={"bounds rest on all groups": OTHERS, "what joins a group begins without a floor": STALE},
        short=2,
        long=16,
        long_controls=("bounds rest on all groups",),
    ),
)
