"""3: a consumer is stopped past its session with a fill on its way; its successor goes on; then it wakes up."""

import asyncio
import json
import time
from collections.abc import Sequence
from signal import SIGCONT, SIGSTOP
from typing import Any

from redis.asyncio import Redis

from ops.stack.process import STOP_SECONDS
from tests.faults.experiment import Experiment, Outcome, Turn
from tests.faults.pipeline import RESOURCE, metrics
from tests.faults.proxy import Proxy
from tests.faults.scene import Scene, scene
from tests.waiting import eventually

CHANGED = "changed by the zombie"
KEYS = 60
LEASE_MS = "500"
SLOW_SECONDS = 3.0
FILL_BYTES = 70
"""Of one key in the command that fills, at least."""


async def wake_zombies(turn: Turn) -> Outcome:
    outcome, redis, mongod = Outcome(), await turn.bench.redis(), await turn.bench.mongod()
    async with Proxy(redis.port) as proxy, Proxy(mongod.members[0].ports[0]) as slow:
        zombie = {
            "CONSUMER__LEASE_MS": LEASE_MS,
            "REDIS__URL": proxy.redis_url,
            "MONGODB__URI": f"mongodb://127.0.0.1:{slow.port}/?directConnection=true",
            "MONGODB__READ_TIMEOUT_MS": "20000",
        }
        async with (
            scene(turn, outcome, consumer=zombie, on_change="refresh") as stage,
            Redis.from_url(redis.url) as eye,
        ):
            stage.pipe.rule = None  # only the zombie goes without it
            for _ in range(turn.rounds):
                await stage.load.check(outcome)
                await stage.load.pause()
                slow.down.delay_seconds = SLOW_SECONDS
                keys = stage.load.random.sample(range(stage.load.shape.keys), KEYS)
                await _wake_one(stage, proxy, eye, keys, outcome)
                slow.heal()
    return outcome


async def _wake_one(stage: Scene, proxy: Proxy, eye: Redis, keys: Sequence[int], outcome: Outcome) -> None:
    load, zombie = stage.load, stage.consumer

    async def fill_is_on_its_way() -> bool:
        return proxy.up.waiting_bytes > FILL_BYTES * KEYS

    for key in keys:
        await load.change(key, removal=False)
    # The leases are granted; the documents are on their way from MongoDB.
    await stage.pipe.passed(load.writes.last_version, 8 * SLOW_SECONDS)
    proxy.up.hold()
    await eventually(fill_is_on_its_way, "the fill is on its way", 8 * SLOW_SECONDS)
    zombie.signal(SIGSTOP)
    stopped = time.monotonic()
    successor = await stage.pipe.start("consumer", CONSUMER__LEASE_MS=LEASE_MS)
    for key in keys:
        await load.change(key, removal=False)
    await load.recovered(outcome, stopped)
    await load.check(outcome)
    await load.pause()
    before = await _held(eye, stage.pipe.name, keys)
    fills = (await metrics(successor)).get("neverstale_fills_total", 0)
    zombie.signal(SIGCONT)
    proxy.heal()
    await asyncio.sleep(0)
    await eventually(lambda: _answers(zombie), "the zombie is awake")
    after = await _held(eye, stage.pipe.name, keys)
    for key, was, now in zip(keys, before, after, strict=True):
        outcome.tally(CHANGED).note(was != now, "key", key, was, "->", now)
    outcome.count("fills of the successor", fills)
    await load.check(outcome)
    await successor.stop(STOP_SECONDS)


async def _held(eye: Redis, name: str, keys: Sequence[int]) -> list[tuple[bytes, bytes, Any]]:
    """State, version and revision of each entry."""
    raws: list[Any] = await eye.mget([f"{name}:{RESOURCE}:d:i:{key}" for key in keys])
    return [(raw[:1], raw[3:19], json.loads(raw[96:] or b"null")) if raw else (b"-", b"", None) for raw in raws]


async def _answers(role: Any) -> bool:
    try:
        return bool(await metrics(role))
    except OSError:
        return False


EXPERIMENTS = (
    Experiment(
        number="3",
        fault="SIGSTOP of a consumer past its session, with a fill on its way, then SIGCONT",
        holds="the zombie's writes change nothing",
        run=wake_zombies,
        controls={"fills are not compared": CHANGED},
        short=1,
        long=20,
    ),
)
