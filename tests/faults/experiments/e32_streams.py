"""32: live reads, while an API is killed, the channel is cut, Redis is emptied and the consumer is frozen."""

import asyncio
import contextlib
import time
from signal import SIGCONT, SIGSTOP
from typing import Final

from redis.asyncio import Redis

from neverstale.ops.truth.oracle import judge
from tests.faults.rig.experiment import BOUND, Experiment, Outcome, Turn
from tests.faults.rig.load import Shape
from tests.faults.rig.scene import Scene, scene
from tests.faults.rig.watching import ARRIVES_SECONDS, BACK, LAST, LiveWatcher
from tests.support.beside import beside
from tests.support.waiting import eventually

KEYS: Final = 12
STREAMS_A_KEY: Final = 3
"""One of them reads slowly."""
CUTS: Final = 10
FROZEN_SECONDS: Final = 1.5
"""Less than a session: the partitions stay where they are."""


async def storm(turn: Turn) -> Outcome:
    outcome = Outcome()
    shape = Shape(keys=KEYS, writers=4, readers=1, writes_per_second=60, reads_per_second=20)
    variables = {"LIVE__UNHEARD_INTERVAL_MS": "500"}
    async with scene(turn, outcome, shape, apis=2, api=variables) as stage:
        urls = list(stage.load.urls)
        watchers = [
            LiveWatcher(number, number % KEYS, stage.load, urls, slow=number // KEYS == STREAMS_A_KEY - 1)
            for number in range(KEYS * STREAMS_A_KEY)
        ]
        async with beside(*(watcher.run() for watcher in watchers)):
            for _ in turn.each_round(outcome):
                for fault in (_freeze, _empty, _kill, _cut):
                    await asyncio.sleep(0.5)
                    await fault(stage, urls)
                await stage.load.pause()  # the last changes are announced while nobody listens
                await _note_last(stage, watchers, outcome)
                stage.load.gate.set()
        _judge(stage, watchers, outcome)
    return outcome


async def _cut(stage: Scene, urls: list[str]) -> None:
    """Every subscription, again and again, while writers write."""
    async with Redis.from_url(stage.pipe.redis_url) as redis:
        for _ in range(CUTS):
            await redis.client_kill_filter(_type="pubsub")
            await asyncio.sleep(0.15)


async def _freeze(stage: Scene, urls: list[str]) -> None:
    stage.consumer.signal(SIGSTOP)
    try:
        await asyncio.sleep(FROZEN_SECONDS)
    finally:
        stage.consumer.signal(SIGCONT)


async def _empty(stage: Scene, urls: list[str]) -> None:
    async with Redis.from_url(stage.pipe.redis_url) as redis:
        await redis.flushall()


async def _kill(stage: Scene, urls: list[str]) -> None:
    """The API that was started first, and another one in its place."""
    gone = next(role for role in stage.pipe.roles if role.url == urls[0])
    gone.kill()
    del urls[0]
    urls.append((await stage.pipe.start("api", LIVE__UNHEARD_INTERVAL_MS="500")).url)
    stage.load.urls = list(urls)


async def _note_last(stage: Scene, watchers: list[LiveWatcher], outcome: Outcome) -> None:
    """Nobody writes any more: soon all have the last state."""
    await stage.pipe.passed(stage.load.writes.last_version, stage.load.shape.converge_seconds)

    async def arrived() -> bool:
        return not any(_lacks(stage, watcher) for watcher in watchers)

    with contextlib.suppress(AssertionError):  # who lacks it is told below
        await eventually(arrived, "all have the last state", ARRIVES_SECONDS)
    for watcher in watchers:
        if watcher.key not in stage.load.unknown:
            outcome.tally(LAST).note(_lacks(stage, watcher), watcher.number, watcher.revision, watcher.last_id)


def _lacks(stage: Scene, watcher: LiveWatcher) -> bool:
    if watcher.key in stage.load.unknown or watcher.revision is None:
        return watcher.revision is None
    now = time.monotonic()
    history = stage.load.writes.of(watcher.key)
    seen = watcher.revision if watcher.revision > 0 else history.latest_removal(now)
    return seen < history.due(now)


def _judge(stage: Scene, watchers: list[LiveWatcher], outcome: Outcome) -> None:
    for watcher in watchers:
        verdict = judge(stage.load.writes, watcher.reads)
        outcome.add(BOUND, verdict.violated_bounds)
        tally = outcome.tally(BACK)
        tally.checked += len(watcher.reads)
        for sentence in watcher.back:
            tally.note(True, sentence)
        outcome.count("states and bounds", len(watcher.reads))
        outcome.count("streams", watcher.streams)


EXPERIMENTS = (
    Experiment(
        number="32",
        fault="live streams while the channel is cut, the consumer frozen, Redis emptied and an API killed",
        holds="each has the last state soon after the last write, none went back in time or broke its bound",
        run=storm,
        controls={
            "what was not heard is read again": LAST,
            "a channel that broke vouches for nothing": BOUND,
        },
        short=0,  # CI has tests/unit/api/live/test_feeds.py, which takes the same rules away
        long=1,
    ),
)
