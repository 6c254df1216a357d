"""1 and 2: roles are killed at random points under load, and started again."""

import asyncio
import time
from random import Random

from ops.stack.role import RunningRole
from tests.faults.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.load import Load, Shape, under_load
from tests.faults.pipeline import pipeline
from tests.faults.proxy import Proxy

SLOW_SECONDS = 0.05
"""The server behind the victim is so slow each way: there is always something on its way when the victim dies."""
SHAPE = Shape(converge_seconds=15)


async def kill_watcher(turn: Turn) -> Outcome:
    outcome, dice = Outcome(), turn.random
    broker = await turn.bench.kafka()
    async with (
        Proxy(broker.inner_port, broker.watcher_port) as proxy,
        pipeline(turn.bench, turn.rule, on_change="invalidate") as pipe,
    ):
        watcher = await pipe.start(
            "watcher", KAFKA__BOOTSTRAP_SERVERS=broker.watcher_servers, WATCHER__CHECKPOINT_INTERVAL_MS="5"
        )
        await pipe.start("consumer")
        api = await pipe.start("api")
        mongo_uri = pipe.environment["MONGODB__URI"]
        async with under_load(pipe, outcome, mongo_uri, [api.url], dice, SHAPE) as load:
            proxy.delay(SLOW_SECONDS)
            for _ in range(turn.rounds):
                await _kill(watcher, load, outcome, dice)
    return outcome


async def kill_consumer(turn: Turn) -> Outcome:
    outcome, dice = Outcome(), turn.random
    redis = await turn.bench.redis()
    async with Proxy(redis.port) as proxy, pipeline(turn.bench, turn.rule, on_change="invalidate") as pipe:
        await pipe.start("watcher")
        consumer = await pipe.start("consumer", REDIS__URL=f"redis://127.0.0.1:{proxy.port}/0")
        api = await pipe.start("api")
        mongo_uri = pipe.environment["MONGODB__URI"]
        async with under_load(pipe, outcome, mongo_uri, [api.url], dice, SHAPE) as load:
            proxy.delay(SLOW_SECONDS)
            for _ in range(turn.rounds):
                await _kill(consumer, load, outcome, dice)
    return outcome


async def _kill(victim: RunningRole, load: Load, outcome: Outcome, dice: Random) -> None:
    """Kill it while all keys are cached and some are being changed; then see what became of those."""
    await asyncio.sleep(dice.uniform(0.1, 0.4))
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
    ),
)
