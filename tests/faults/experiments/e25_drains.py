"""25: roles are asked to stop, again and again, under load."""

import asyncio
import time

from neverstale.ops.stack.role import RunningRole
from neverstale.ops.truth.oracle import Tally
from tests.faults.rig.experiment import Experiment, Outcome, Turn
from tests.faults.rig.pipeline import metrics
from tests.faults.rig.proxy import Proxy
from tests.faults.rig.scene import scene

BROKEN = "requests broken or answered with 5xx"
FORCED = "roles that did not drain"
AGAIN = "changes applied and not committed"
DRAIN_SECONDS = 10.0
SLOW_SECONDS = 0.015
"""Redis is so slow each way for the API: there is always a request under way."""


async def restart_all(turn: Turn) -> Outcome:
    outcome, redis = Outcome(), await turn.bench.redis()
    async with (
        Proxy(redis.port) as proxy,
        scene(turn, outcome, api={"REDIS__URL": proxy.redis_url}, apis=2) as stage,
    ):
        proxy.delay(SLOW_SECONDS)
        load, apis = stage.load, [role for role in stage.pipe.roles if role.name.startswith("api")]
        for _ in turn.each_round(outcome):
            for role in (*apis, stage.watcher):
                await _restart(role, outcome)
            await load.pause()
            await stage.pipe.passed(load.writes.last_version, 20)
            await _restart(stage.consumer, outcome)
            await _applied_again(stage.consumer, outcome)
            load.gate.set()
            began = time.monotonic()
            await load.recovered(outcome, began)
            await load.check(outcome)
        answered = sum(load.statuses.values())
        bad = len(load.broken) + sum(count for status, count in load.statuses.items() if status >= 500)
        outcome.add(BROKEN, Tally(bad, answered + len(load.broken), load.broken))
    return outcome


async def _restart(role: RunningRole, outcome: Outcome) -> None:
    began = time.monotonic()
    await role.stop(DRAIN_SECONDS + 5)
    outcome.tally(FORCED).note(role.exit_code != 0, role.name, "exit code", role.exit_code)
    outcome.figures["longest drain"] = max(time.monotonic() - began, outcome.figures.get("longest drain", 0))
    await role.restart(0)


async def _applied_again(consumer: RunningRole, outcome: Outcome) -> None:
    """Nothing was written since all was applied: whatever comes now had not been committed."""
    applied = 'neverstale_records_applied_total{kind="mark"}'
    async with asyncio.timeout(20):
        while not (counted := await metrics(consumer)).get(applied):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    again = counted.get('neverstale_records_applied_total{kind="change"}', 0)
    outcome.tally(AGAIN).note(again > 0, f"{again:.0f} changes")


EXPERIMENTS = (
    Experiment(
        number="25",
        fault="SIGTERM of each role under load, rolling",
        holds="drained within the deadline, no 5xx, offsets committed",
        run=restart_all,
        controls={"no drain": BROKEN},
        short=1,
        long=50,
        long_controls=("no drain",),
    ),
)
