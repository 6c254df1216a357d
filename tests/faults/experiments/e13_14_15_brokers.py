"""13, 14 and 15: the broker is away, forgets to acknowledge, restarts; consumers come and go, and get stuck."""

import asyncio
import time
from signal import SIGCONT, SIGSTOP
from typing import Any

import psutil

from neverstale.ops.stack.process import STOP_SECONDS
from tests.faults.rig.experiment import LATE, STALE, Experiment, Outcome, Turn
from tests.faults.rig.proxy import Proxy
from tests.faults.rig.scene import Scene, scene

MOVED = "tokens stored during the outage"
GREW = "memory above its bound"
HUNG = "stops that hung"
GROWTH_BYTES = 128 << 20
SHORT_SECONDS, LONG_SECONDS = 3.0, 60.0
LONG_FORM = 3
"""With so many rounds, every second outage is a long one."""
DRAIN_SECONDS = 4.0
REQUEST_MS = "2000"


async def lose_broker(turn: Turn) -> Outcome:
    outcome, broker = Outcome(), await turn.bench.kafka()
    kafka = broker.cluster.members[0]
    variables = {"KAFKA__REQUEST_TIMEOUT_MS": REQUEST_MS, "SERVICE__DRAIN_SECONDS": str(DRAIN_SECONDS)}
    async with scene(turn, outcome, watcher=variables) as stage:
        for round_ in turn.each_round(outcome):
            seconds = LONG_SECONDS if turn.rounds >= LONG_FORM and round_ % 2 else SHORT_SECONDS
            memory = psutil.Process(stage.watcher.pid)
            before = memory.memory_info().rss
            if killing := bool(turn.random.randrange(2) ^ round_ % 2):
                kafka.kill()
            else:
                kafka.signal(SIGSTOP)
            try:
                await asyncio.sleep(1)  # what had been acknowledged may still be stored
                token = await _stored(stage)
                await asyncio.sleep(seconds - 1)
                outcome.tally(MOVED).note(await _stored(stage) != token, "was", token)
                grown = memory.memory_info().rss - before
                outcome.tally(GREW).note(grown > GROWTH_BYTES, f"{grown:,} bytes")
                outcome.figures["most bytes grown"] = max(grown, outcome.figures.get("most bytes grown", 0))
                if round_ == 0:
                    await _stop(stage, outcome)
            finally:
                if killing:
                    await kafka.restart(0)
                else:
                    kafka.signal(SIGCONT)
            back = time.monotonic()
            if not stage.watcher.alive:
                await stage.watcher.restart(0)
            await stage.load.recovered(outcome, back)
            await stage.load.check(outcome)
    return outcome


async def _stored(stage: Scene) -> Any:
    found = await stage.load.client[stage.pipe.name]["neverstale.control"].find_one({"_id": "checkpoint:default"})
    return found and found["version"]


async def _stop(stage: Scene, outcome: Outcome) -> None:
    """SIGTERM while nothing can be acknowledged: it gives up in order, and is not forced."""
    await stage.watcher.stop(DRAIN_SECONDS + STOP_SECONDS)
    code = stage.watcher.exit_code
    outcome.tally(HUNG).note(code != 0, "exit code", code)


async def drop_acks(turn: Turn) -> Outcome:
    """Records arrive and their acknowledgements do not, for longer than a request may take."""
    outcome, broker = Outcome(), await turn.bench.kafka()
    variables = {"KAFKA__BOOTSTRAP_SERVERS": broker.watcher_servers, "KAFKA__REQUEST_TIMEOUT_MS": REQUEST_MS}
    async with (
        Proxy(broker.inner_port, broker.watcher_port) as proxy,
        scene(turn, outcome, watcher=variables) as stage,
    ):
        for round_ in turn.each_round(outcome):
            await asyncio.sleep(0.2)
            proxy.down.dropped = True
            await asyncio.sleep(1.5 * int(REQUEST_MS) / 1000)
            if round_ % 2:
                broker.cluster.members[0].kill()
                await broker.cluster.members[0].restart(0)
            healed = time.monotonic()
            proxy.heal()
            proxy.cut()
            await stage.load.recovered(outcome, healed)
            await stage.load.check(outcome)
    return outcome


async def restart_broker(turn: Turn) -> Outcome:
    """Brokers restart in turn while consumers join and leave; and every client of Kafka goes silent once."""
    outcome, bench = Outcome(), turn.bench
    broker = await (bench.kafka_pair() if turn.rounds >= LONG_FORM else bench.kafka())
    members = broker.cluster.members
    async with scene(turn, outcome, inject=["the first client goes silent"], broker=broker) as stage:
        for round_ in turn.each_round(outcome):
            second = await stage.pipe.start("consumer")
            await members[round_ % len(members)].restart(5)
            back = time.monotonic()
            second.kill() if turn.random.random() < 0.5 else await second.stop(STOP_SECONDS)
            await stage.load.recovered(outcome, back)
            await stage.load.check(outcome)
    return outcome


EXPERIMENTS = (
    Experiment(
        number="13",
        fault="the broker is killed or stopped, for 3 s and (long form) 60 s",
        holds="memory is bounded, the token frozen, a stop returns, nothing is lost",
        run=lose_broker,
        controls={"bare start and stop of the producer": HUNG},
        short=1,
        long=4,
        long_controls=("bare start and stop of the producer",),
    ),
    Experiment(
        number="14",
        fault="acknowledgements of the broker are dropped; it restarts in the middle",
        holds="the producer is built anew and nothing is lost",
        run=drop_acks,
        controls={"keep the producer": STALE},
        short=1,
        long=20,
        long_controls=("keep the producer",),
    ),
    Experiment(
        number="15",
        fault="the broker (long form: two, in turn) restarts, consumers join and leave, clients go silent",
        holds="the progress watchdog heals, none is stuck",
        run=restart_broker,
        controls={"no progress watchdog": LATE},
        short=1,
        long=10,
        long_controls=("no progress watchdog",),
    ),
)
