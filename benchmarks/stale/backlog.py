"""A backlog, worked off: all changes of the week, written while those who work for each change were halted."""

import asyncio
import time
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from signal import Signals
from typing import Final

from pymongo import UpdateOne

from benchmarks.beside import cpu_seconds, noting
from benchmarks.stale.phases import Scene
from benchmarks.stale.readers import KEYS_A_REQUEST
from neverstale.ops.demo.flights.replay import happenings
from neverstale.ops.truth import corrections

QUIET_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 75.0
BULK: Final = 1000


async def drain(scene: Scene) -> dict[str, float]:
    """Changes a second, and microseconds of CPU for each, of those who work for each change."""
    processes = scene.running.pipeline
    assert scene.running.seen is not None
    prefix, served_only = scene.running.seen
    if served_only:  # what is not there needs no correction
        places = range(len(scene.week.flights))
        for first in places[::KEYS_A_REQUEST]:
            await scene.readers.many(places[first : first + KEYS_A_REQUEST])
    notes = scene.folder / "seen-drain"
    command = ["neverstale.ops.truth.corrections", scene.redis_url, prefix, str(notes), "--no-headers"]
    async with noting("observer", command, notes):
        for process in processes:
            process.signal(Signals.SIGSTOP)
        try:
            changes, keys = await _write_all(scene)
            corrected = await _to_correct(scene, sorted(map(scene.spelled, keys)))
        finally:
            cpu, started = sum(cpu_seconds(processes).values()), time.monotonic()
            for process in processes:
                process.signal(Signals.SIGCONT)
        await _until_done(notes, started, corrected)
        cpu = sum(cpu_seconds(processes).values()) - cpu
    last = max(sight.at for sight in _sights(notes, started))
    return {"changes": changes, "per_second": changes / (last - started), "cpu_us": 1e6 * cpu / changes}


async def _write_all(scene: Scene) -> tuple[int, set[str]]:
    """How many changes that made, and of which flights; those that the demo has removed are not changed any more."""
    flights, count = scene.board.flights, 0
    there = {each["_id"] async for each in flights.find({}, {"_id": 1})}
    updates = list(_updates(scene))
    for first in range(0, len(updates), BULK):
        written = await flights.bulk_write(updates[first : first + BULK])
        count += written.modified_count
    keys = {scene.board.key(one.flight) for one in happenings(scene.week.flights) if one.values}
    return count, keys & there


async def _to_correct(scene: Scene, keys: Sequence[bytes]) -> set[bytes]:
    """What the backlog will correct: all, or what is cached of it."""
    assert scene.running.seen is not None
    _, served_only = scene.running.seen
    if not served_only:
        return set(keys)
    held = zip(keys, await scene.redis.mget(keys), strict=True)
    return {key for key, entry in held if entry is not None and entry[:1] in corrections.SERVED}


def _updates(scene: Scene) -> Iterator[UpdateOne]:
    for number, one in enumerate(happenings(scene.week.flights)):
        if one.values:
            yield UpdateOne({"_id": scene.board.key(one.flight)}, {"$set": {**one.values, "now": number}})


def _sights(notes: Path, since: float) -> list[corrections.Sighting]:
    return [sight for sight in corrections.read(notes) if sight.state != corrections.LOST and sight.at >= since]


async def _until_done(notes: Path, since: float, keys: Set[bytes]) -> None:
    """Until all of the keys were corrected, and then nothing for a while. The last changes of the week are of other
    flights than the first, so nobody is taken to be done who only rests."""
    look, size, changed = notes.stat, 0, time.monotonic()
    until = changed + DRAIN_SECONDS
    missing = len(keys)
    while time.monotonic() < until:
        await asyncio.sleep(QUIET_SECONDS / 20)
        if (now := look().st_size) != size:
            size, changed = now, time.monotonic()
        elif time.monotonic() - changed > QUIET_SECONDS:
            missing = len(keys - {sight.key for sight in _sights(notes, since)})
            if not missing:
                return
            changed = time.monotonic()
    raise TimeoutError(f"{missing:,} of {len(keys):,} flights were not corrected within {DRAIN_SECONDS:g} s")
