"""30: sentinels promote a replica that lags, under load; clients find it by asking them."""

import time
from functools import partial

from redis.asyncio import Redis

from neverstale.ops.stack.ports import LOOPBACK
from neverstale.ops.stack.process import RunningProcess
from tests.faults.experiments.e19_21_redises import CHANGES, in_step, note_replays
from tests.faults.rig.experiment import STALE, Experiment, Outcome, Turn
from tests.faults.rig.scene import scene
from tests.support.sentinels import MASTER, sentinel_url, start_sentinel
from tests.support.waiting import eventually

SENTINELS = 3


async def failover(turn: Turn) -> Outcome:
    outcome, bench = Outcome(), turn.bench
    primary = await bench.new_redis()
    replica = await bench.new_redis(replica_of=primary.ports[0])
    await in_step(primary, replica)
    watching = [
        bench.keep(await start_sentinel(bench.data, bench.name("sentinel"), primary.ports[0], SENTINELS // 2 + 1))
        for _ in range(SENTINELS)
    ]
    for sentinel in watching:
        await eventually(partial(_is_complete, sentinel), "each sentinel knows the replica and the others", 30)
    async with scene(turn, outcome, redis_url=sentinel_url(watching)) as stage:
        for round_ in range(turn.rounds):
            stage.pipe.redis_url = primary.url
            await stage.load.check(outcome)
            await stage.load.pause()
            await in_step(primary, replica)
            await _cut_off(primary, replica)
            for key in stage.load.random.sample(range(stage.load.shape.keys), CHANGES):
                await stage.load.change(key)
            await stage.pipe.passed(stage.load.writes.last_version, 10)
            stage.load.gate.set()
            primary.kill()
            began = time.monotonic()
            await eventually(partial(_is_master, watching[0], replica), "the replica is promoted", 60)
            primary, replica = replica, primary
            stage.pipe.redis_url = primary.url
            outcome.figures["slowest promotion, s"] = max(
                time.monotonic() - began, outcome.figures.get("slowest promotion, s", 0)
            )
            await stage.load.recovered(outcome, began)
            await stage.load.check(outcome)
            if round_ + 1 < turn.rounds:
                await replica.restart(0)
                await _follow(replica, primary)
        await note_replays(stage, outcome)
    return outcome


async def _cut_off(primary: RunningProcess, replica: RunningProcess) -> None:
    """The replica hears no more: its primary refuses the user that it comes back as."""
    async with _client(replica) as behind, _client(primary) as ahead:
        await behind.config_set("masteruser", "nobody")
        await behind.config_set("masterauth", "nothing")
        await ahead.execute_command("CLIENT", "KILL", "TYPE", "replica")  # type: ignore[no-untyped-call]


async def _follow(replica: RunningProcess, primary: RunningProcess) -> None:
    """A server that is back takes its place behind the new master, as the sentinels would have it in the end."""
    async with _client(primary) as ahead, _client(replica) as behind:
        await ahead.config_set("masterauth", "")
        await ahead.config_set("masteruser", "")
        await behind.replicaof(LOOPBACK, primary.ports[0])
    await in_step(primary, replica)


def _client(server: RunningProcess) -> Redis:
    return Redis(host=LOOPBACK, port=server.ports[0], decode_responses=True)


async def _is_complete(sentinel: RunningProcess) -> bool:
    async with _client(sentinel) as client:
        told = await client.execute_command("SENTINEL", "MASTER", MASTER)  # type: ignore[no-untyped-call]
    known = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
    return int(known["num-slaves"]) >= 1 and int(known["num-other-sentinels"]) >= SENTINELS - 1


async def _is_master(sentinel: RunningProcess, server: RunningProcess) -> bool:
    async with _client(sentinel) as client:
        told = await client.execute_command("SENTINEL", "get-master-addr-by-name", MASTER)  # type: ignore[no-untyped-call]
    async with _client(server) as client:
        role = (await client.info("replication"))["role"]
    return int(told[1]) == server.ports[0] and role == "master"


EXPERIMENTS = (
    Experiment(
        number="30",
        fault="Redis is killed, and sentinels promote a replica that lags",
        holds="clients find the new master; what it lacks is applied again; bounds are honest meanwhile",
        run=failover,
        controls={"what another Redis lacks is not looked at": STALE},
        short=1,
        long=10,
    ),
)
