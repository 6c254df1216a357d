"""3: a consumer is stopped past its session with a fill on its way; its successor goes on; then it wakes up."""

import json
import time
from collections.abc import Sequence
from signal import SIGCONT, SIGSTOP
from typing import Any

from redis.asyncio import Redis

from neverstale.ops.stack.process import STOP_SECONDS
from neverstale.ops.stack.role import RunningRole
from tests.faults.rig.experiment import Experiment, Outcome, Turn
from tests.faults.rig.load import Load
from tests.faults.rig.pipeline import RESOURCE, metrics
from tests.faults.rig.proxy import Proxy
from tests.faults.rig.scene import Scene, scene
from tests.support.waiting import eventually

SET_BACK = "set back by the zombie"
KEYS = 60
LEASE_MS = "500"
PATIENT_MS = "120000"
READ = b"\x10rev\0"
"""In each document that MongoDB answers."""


async def wake_zombies(turn: Turn) -> Outcome:
    outcome, redis, mongod = Outcome(), await turn.bench.redis(), await turn.bench.mongod()
    async with Proxy(mongod.members[0].ports[0]) as proxy:
        zombie = {
            "CONSUMER__LEASE_MS": LEASE_MS,
            "MONGODB__URI": f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true",
            "MONGODB__READ_TIMEOUT_MS": PATIENT_MS,
            "MONGODB__SERVER_SELECTION_TIMEOUT_MS": PATIENT_MS,
        }
        async with (
            scene(turn, outcome, consumer=zombie, on_change="refresh") as stage,
            Redis.from_url(redis.url) as eye,
        ):
            stage.pipe.rule = None  # only the zombie goes without it
            for _ in range(turn.rounds):
                await stage.load.check(outcome)
                await stage.load.pause()
                keys = stage.load.random.sample(range(stage.load.shape.keys), KEYS)
                await _wake_one(stage, proxy, eye, keys, outcome)
    return outcome


async def _wake_one(stage: Scene, proxy: Proxy, eye: Redis, keys: Sequence[int], outcome: Outcome) -> None:
    load, zombie = stage.load, stage.consumer

    async def is_cached() -> bool:
        if all(state in b"DN" for state, _, _ in await _held(eye, stage.pipe.name, keys)):
            return True
        await load.warm()
        return False

    await _refreshes(load, zombie, keys)
    await eventually(is_cached, "the documents are cached", 30)  # only those are refreshed when they change
    proxy.down.hold()
    proxy.down.seek(READ)

    async def is_read() -> bool:
        return proxy.down.found >= KEYS

    refreshed = await _refreshed(zombie)
    await load.change_together(keys)
    # The zombie has marked them stale, has their leases, and has read them: that it does not know yet.
    await eventually(is_read, "the documents are read for a refresh", 30)
    zombie.signal(SIGSTOP)
    stopped = time.monotonic()
    successor = await stage.pipe.start("consumer", CONSUMER__LEASE_MS=LEASE_MS)
    await load.change_together(keys)
    await load.recovered(outcome, stopped)
    await load.check(outcome)
    await load.pause()
    held = await _held(eye, stage.pipe.name, keys)
    proxy.heal()
    zombie.signal(SIGCONT)

    async def has_offered() -> bool:
        return await _refreshed(zombie) >= refreshed + KEYS

    await eventually(has_offered, "the zombie has offered its fills", 30)
    for key, was, now in zip(keys, held, await _held(eye, stage.pipe.name, keys), strict=True):
        # One that is stale still has a fill to come, whoever makes it; and a fill that was refused reads again.
        older = now[1] < was[1] or (now[0] == b"D" and was[0] == b"D" and now[2]["rev"] < was[2]["rev"])
        outcome.tally(SET_BACK).note(older, "key", key, was, "->", now)
    await load.check(outcome)
    await successor.stop(STOP_SECONDS)


async def _refreshes(load: Load, zombie: RunningRole, keys: Sequence[int]) -> None:
    """It does so already: of a collection that is new it first asks what it is, and could not ask while held."""
    before = await _refreshed(zombie)

    async def has_refreshed() -> bool:
        await load.warm()
        await load.change_together(keys)
        return await _refreshed(zombie) > before

    await eventually(has_refreshed, "documents are refreshed", 30)


async def _refreshed(consumer: RunningRole) -> float:
    """How many refreshes have come to an end, one way or the other."""
    try:
        return (await metrics(consumer)).get("neverstale_refreshes_total", 0)
    except OSError:
        return 0


async def _held(eye: Redis, name: str, keys: Sequence[int]) -> list[tuple[bytes, bytes, Any]]:
    """State, version and revision of each entry."""
    raws: list[Any] = await eye.mget([f"{name}:{RESOURCE}:d:i:{key}" for key in keys])
    return [(raw[:1], raw[3:19], json.loads(raw[96:] or b"null")) if raw else (b"-", b"", None) for raw in raws]


EXPERIMENTS = (
    Experiment(
        number="3",
        fault="SIGSTOP of a consumer past its session, with a fill on its way, then SIGCONT",
        holds="the zombie's writes set nothing back",
        run=wake_zombies,
        controls={"fills are not compared": SET_BACK},
        short=1,
        long=20,
    ),
)
