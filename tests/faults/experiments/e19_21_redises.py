"""19 and 21: Redis fails over to a replica that lags; Redis is silent, slow, loading, forgetful."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from redis.asyncio import Redis

from neverstale.ops.stack.ports import LOOPBACK, free_port
from neverstale.ops.stack.process import Launch, RunningProcess
from neverstale.ops.stack.redis import find_redis_server
from tests.faults.rig.bench import Bench
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.pipeline import metrics
from tests.faults.rig.proxy import Proxy
from tests.faults.rig.scene import Scene, scene
from tests.support.waiting import eventually

ERRORS = "5xx"
VOIDED = "all was voided instead of replayed"
SLOW = "slower than the budget"
BUDGET_SECONDS = 2.0
"""A read may wait 50 ms for Redis and then for MongoDB. The rest is for a machine that is busy with all this."""
SILENT_SECONDS = {True: 3.0, False: 30.0}
SLOW_SECONDS = 0.1
LOADING_KEYS = 20_000
CHANGES = 50


async def promote(turn: Turn) -> Outcome:
    """A replica has not heard of the last invalidations when it is promoted. Clients find it at the same address."""
    outcome, bench = Outcome(), turn.bench
    primary = await bench.new_redis()
    async with Proxy(primary.ports[0]) as front, scene(turn, outcome, redis_url=front.redis_url) as stage:
        for _ in turn.each_round(outcome):
            async with Proxy(primary.ports[0]) as link:
                replica = await bench.new_redis(replica_of=link.port)
                await stage.load.check(outcome)
                await stage.load.pause()
                await in_step(primary, replica)
                link.hold()
                for key in stage.load.random.sample(range(stage.load.shape.keys), CHANGES):
                    await stage.load.change(key)
                await stage.pipe.passed(stage.load.writes.last_version, 10)
                stage.load.gate.set()
                primary.kill()
                began = time.monotonic()
                await _ask(replica, "REPLICAOF", "NO", "ONE")
            front.target = replica.port
            front.cut()
            primary = replica
            await stage.load.recovered(outcome, began)
            await stage.load.check(outcome)
        await note_replays(stage, outcome)
    return outcome


async def note_replays(stage: Scene, outcome: Outcome) -> None:
    """What the Redis that took over lacked was applied again, and nothing voided."""
    counted = await metrics(stage.consumer)
    replayed = counted.get('neverstale_redis_lacked_total{action="replayed"}', 0)
    voided = counted.get('neverstale_redis_lacked_total{action="voided"}', 0)
    outcome.tally(VOIDED).note(voided > 0 or not replayed, f"voided {voided:.0f}, replayed {replayed:.0f}")


async def in_step(primary: RunningProcess, replica: RunningProcess) -> None:
    """All that the primary has taken so far, the replica has taken too."""
    async with _client(primary) as ahead, _client(replica) as behind:
        taken = (await ahead.info("replication"))["master_repl_offset"]

        async def linked() -> bool:
            told = await behind.info("replication")
            # One that starts again takes itself for a master until its peers tell it.
            return told.get("master_link_status") == "up" and int(told["slave_repl_offset"]) >= taken

        await eventually(linked, "the replica follows", 30)


def _client(server: RunningProcess) -> Redis:
    return Redis(host=LOOPBACK, port=server.ports[0])


async def _ask(server: RunningProcess, *words: str) -> object:
    async with _client(server) as client:
        answer: object = await client.execute_command(*words)  # type: ignore[no-untyped-call]
        return answer


async def lose_redis(turn: Turn) -> Outcome:
    outcome = Outcome()
    redis = await _slow_starter(turn.bench)
    async with Proxy(redis.ports[0]) as proxy, scene(turn, outcome, redis_url=proxy.redis_url) as stage:
        acts: tuple[Callable[[], Awaitable[None]], ...] = (
            lambda: _silence(proxy, SILENT_SECONDS[turn.rounds <= len(acts)]),
            lambda: _slow_down(proxy),
            lambda: _load(redis, stage),
            lambda: _forget_scripts(redis),
        )
        stage.load.latencies.clear()
        for round_ in turn.each_round(outcome):
            await acts[round_ % len(acts)]()
            await stage.load.recovered(outcome, time.monotonic())
            await stage.load.check(outcome)
        for seconds in stage.load.latencies:
            outcome.tally(SLOW).note(seconds > BUDGET_SECONDS, f"{seconds:.2f} s")
        for status, count in stage.load.statuses.items():
            for _ in range(count):
                outcome.tally(ERRORS).note(status >= 500, status)
        outcome.figures["slowest read"] = max(stage.load.latencies, default=0)
    return outcome


async def _silence(proxy: Proxy, seconds: float) -> None:
    """Stopped, as the network sees it: connections stay, and nothing answers."""
    proxy.hold()
    await asyncio.sleep(seconds)
    proxy.heal()


async def _slow_down(proxy: Proxy) -> None:
    proxy.delay(SLOW_SECONDS)
    await asyncio.sleep(1)
    proxy.heal()


async def _load(redis: RunningProcess, stage: Scene) -> None:
    """Killed, and started again from a file; while it loads, it answers LOADING."""
    async with _client(redis) as client:
        for start in range(0, LOADING_KEYS, 1000):
            await client.mset({f"{stage.pipe.name}-ballast:{number}": "x" for number in range(start, start + 1000)})
        await client.save()
    redis.kill()
    await redis.restart(0)


async def _forget_scripts(redis: RunningProcess) -> None:
    for _ in range(5):
        await _ask(redis, "SCRIPT", "FLUSH")
        await asyncio.sleep(0.1)


async def _slow_starter(bench: Bench) -> RunningProcess:
    """A Redis that takes 50 us for each key that it loads (a hidden setting, made for Redis's own tests)."""
    port, name = free_port(), bench.name("redis")
    folder = bench.data / name
    folder.mkdir()
    argv: list[str | Path] = [find_redis_server("path"), "--port", str(port), "--bind", LOOPBACK, "--dir", folder]
    argv += ["--save", "", "--key-load-delay", "50"]

    async def ready() -> bool:
        with contextlib.suppress(Exception):
            async with Redis(host=LOOPBACK, port=port, socket_timeout=1) as client:
                return bool(await client.ping())
        return False

    launch = Launch(name=name, argv=argv, log=bench.data / "logs" / f"{name}.log", ready=ready, ports=(port,))
    return bench.keep(await RunningProcess.start(launch))


EXPERIMENTS = (
    Experiment(
        number="19",
        fault="a replica is promoted while it lags",
        holds="what it lacks is applied again, what it kept stays; bounds are honest meanwhile",
        run=promote,
        controls={"what another Redis lacks is not looked at": STALE},
        short=1,
        long=20,
    ),
    Experiment(
        number="21",
        fault="Redis is silent for 3 s (long form: 30 s), slow, loading, and forgets its scripts",
        holds="reads come from MongoDB within the budget, no 5xx",
        run=lose_redis,
        controls={"the library's time-outs": SLOW},
        short=4,
        long=8,
        long_controls=("the library's time-outs",),
    ),
)
