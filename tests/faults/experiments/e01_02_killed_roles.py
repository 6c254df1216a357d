"""1 and 2: roles are killed at random points under load, and started again."""

import asyncio
import time

from neverstale.ops.stack.role import RunningRole
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.load import Load
from tests.faults.rig.proxy import Proxy
from tests.faults.rig.scene import scene

SLOW_SECONDS = 0.05
"""The server behind the victim is so slow each way: there is always something on its way when the victim dies."""


async def kill_watcher(turn: Turn) -> Outcome:
    outcome, broker = Outcome(), await turn.bench.kafka()
    hurried = {"KAFKA__BOOTSTRAP_SERVERS": broker.watcher_servers, "WATCHER__CHECKPOINT_INTERVAL_MS": "5"}
    async with (
        Proxy(broker.inner_port, broker.watcher_port) as proxy,
        scene(turn, outcome, watcher=hurried, on_change="invalidate") as stage,
    ):
        proxy.delay(SLOW_SECONDS)
        await _kill(turn, stage.watcher, stage.load, outcome)
    return outcome


async def kill_consumer(turn: Turn) -> Outcome:
    outcome, redis = Outcome(), await turn.bench.redis()
    async with (
        Proxy(redis.port) as proxy,
        scene(turn, outcome, consumer={"REDIS__URL": proxy.redis_url}, on_change="invalidate") as stage,
    ):
        proxy.delay(SLOW_SECONDS)
        await _kill(turn, stage.consumer, stage.load, outcome)
    return outcome


async def _kill(turn: Turn, victim: RunningRole, load: Load, outcome: Outcome) -> None:
    """Kill it while all keys are cached and some are being changed; then see what became of those."""
    for _ in turn.each_round(outcome):
        await asyncio.sleep(load.random.uniform(0.1, 0.4))
        victim.kill()
        died = time.monotonic()
        await load.pause()
        await victim.restart(0)
        await load.recovered(outcome, died)
        await load.check(outcome)


EXPERIMENTS = (
    Experiment(
        number="1",
        fault="SIGKILL of the watcher at random points under load",
        holds="nothing is lost",
        run=kill_watcher,
        controls={"the token is stored before the acknowledgement": STALE},
        short=2,
        long=100,
    ),
    Experiment(
        number="2",
        fault="SIGKILL of the consumer at random points under load",
        holds="offsets are committed only when applied",
        run=kill_consumer,
        controls={"auto-commit": STALE},
        short=2,
        long=100,
        long_controls=("auto-commit",),
    ),
)
