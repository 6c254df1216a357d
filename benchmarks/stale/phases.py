"""What is done to a cache: load, a kill of each part, a flush of Redis; and a backlog that it works off.

In each phase writers play the week of flights from its Monday on, with the drivers and in the ways of the demo,
while readers ask for what was written of late. When it is over, all that was written is read once more: what is
behind then, nobody corrects before its TTL.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from os import stat_result
from pathlib import Path
from signal import Signals
from typing import Any, Final, TypeAlias

import psutil
from pymongo import UpdateOne
from redis.asyncio import Redis

from benchmarks.beside import cpu_seconds, noting
from benchmarks.stale.caches import Running, delete
from benchmarks.stale.readers import KEYS_A_REQUEST, LOOKED_AT, READERS, Board, Phase, Readers
from benchmarks.stale.truth import GRACE_SECONDS, Truth
from neverstale.ops.demo.flights.board import Week
from neverstale.ops.demo.flights.player import Player
from neverstale.ops.demo.flights.replay import Happening, happenings
from neverstale.ops.truth import corrections

WRITES_PER_SECOND: Final = 100.0
ALL_AT_ONCE: Final = 16
STRIKE_SECONDS: Final = 1.5
"""From the beginning of a phase."""
DEAD_SECONDS: Final = 1.0
"""Until somebody starts again what was killed."""
SETTLE_SECONDS: Final = 3.0
WARM_SECONDS: Final = 3.0
QUIET_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 60.0
BULK: Final = 1000
LAST: Final = "arrival"
"""Nothing happens to a flight behind it, so nothing makes good what was not done."""

Strike: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@dataclass
class Scene:
    """A cache that runs, on a board that is loaded."""

    running: Running
    board: Board
    truth: Truth
    week: Week
    redis: Redis
    redis_url: str
    folder: Path
    forgets: bool = False
    """The deletion behind the next landing is not done: its writer was killed just before."""
    deleted_ms: list[float] = field(default_factory=list)
    """From acknowledged to deleted by the writer."""

    def __post_init__(self) -> None:
        self.readers = Readers(self.running.url, self.truth, self.board)
        if self.running.writer_deletes:
            self.board.followed = self._delete

    async def _delete(self, step: Sequence[Happening]) -> None:
        """What such a writer does behind each of its writes."""
        places = {place for item in step for place in item.flights}
        if self.forgets and step[0].kind == LAST:
            self.forgets = False
            return
        await delete(self.redis, list(map(self.board.key, places)))
        now = time.monotonic()
        self.deleted_ms += [1000 * self.truth.since(place, now) for place in places]

    # --- phases

    async def phase(self, name: str, seconds: float, strike: Strike | None = None) -> Phase:
        found = Phase(name)
        self.truth.begin_phase()
        player, stop = Player(self.week, self.board, WRITES_PER_SECOND, lambda _: None), asyncio.Event()
        writing = asyncio.create_task(player.play(stop))
        reading = [asyncio.create_task(self.readers.read(found, stop, number)) for number in range(READERS)]
        try:
            if strike is None:
                await asyncio.sleep(seconds)
            else:
                await asyncio.sleep(STRIKE_SECONDS)
                await asyncio.gather(strike(), asyncio.sleep(seconds - STRIKE_SECONDS))
        finally:
            stop.set()
            await asyncio.gather(writing, *reading)
        await asyncio.sleep(SETTLE_SECONDS)
        await self._look_again(found)
        return found

    async def load(self, seconds: float) -> Phase:
        """A phase in which nothing happens, but that it is noted when each change was corrected. Redis is watched
        from before anything is cached: only what is known to have been there can be corrected."""
        notes = self.folder / "seen"
        async with self._observed(notes):
            await self.fill()
            await self.phase("warm", WARM_SECONDS)
            await self.fill()
            self.deleted_ms.clear()
            began = time.monotonic()
            found = await self.phase("load", seconds)
        found.corrected_ms = sorted(self.deleted_ms) if self.running.seen is None else self._corrected(notes, began)
        return found

    async def _look_again(self, found: Phase) -> None:
        places = sorted(self.truth.written)
        found.written = len(places)
        for first in range(0, len(places), ALL_AT_ONCE):
            batch = places[first : first + ALL_AT_ONCE]
            late = await asyncio.gather(*map(self.readers.late, batch))
            found.behind += sum(seconds > GRACE_SECONDS for seconds, _ in late)

    @asynccontextmanager
    async def _observed(self, notes: Path) -> AsyncIterator[None]:
        """Notes of what Redis was told, whole at the end."""
        if self.running.seen is None:
            yield
            return
        prefix, served_only = self.running.seen
        command = ["neverstale.ops.truth.corrections", self.redis_url, prefix, str(notes)]
        async with noting("observer", command if served_only else [*command, "--no-headers"], notes):
            yield

    def _corrected(self, seen: Path, since: float) -> list[float]:
        """Milliseconds from acknowledged to corrected, ascending."""
        assert self.running.seen is not None
        prefix, served_only = self.running.seen
        spelled = prefix + "s:" if served_only else prefix
        writes = {
            f"{spelled}{self.board.key(place)}".encode(): moments
            for place, moments in self.truth.moments(since).items()
        }
        sights = corrections.read(seen)
        seconds = corrections.join(sights, writes).seconds if served_only else first_after(sights, writes)
        return sorted(1000 * each for each in seconds)

    # --- strikes

    async def kill(self, part: str) -> None:
        process = self.running.parts[part]
        process.kill()
        await asyncio.sleep(DEAD_SECONDS)
        await process.restart(0)  # and wait until it does its work again

    async def forget(self) -> None:
        """A writer that is killed between a write and its deletions."""
        self.forgets = True

    async def flush(self) -> None:
        await self.redis.flushall()

    # --- a backlog

    async def drain(self) -> dict[str, float]:
        """Changes a second, and microseconds of CPU for each, of those who work for each change: they are halted
        until all of the week is written."""
        processes = self.running.pipeline
        assert self.running.seen is not None
        if self.running.seen[1]:  # what is not there needs no correction
            places = range(len(self.week.flights))
            for first in places[::KEYS_A_REQUEST]:
                await self.readers.many(places[first : first + KEYS_A_REQUEST])
        notes = self.folder / "seen-drain"
        prefix, _ = self.running.seen
        command = ["neverstale.ops.truth.corrections", self.redis_url, prefix, str(notes), "--no-headers"]
        async with noting("observer", command, notes):
            for process in processes:
                process.signal(Signals.SIGSTOP)
            try:
                changes = await self._write_all()
            finally:
                cpu, started = sum(cpu_seconds(processes).values()), time.monotonic()
                for process in processes:
                    process.signal(Signals.SIGCONT)
            await _until_quiet(notes.stat)
            cpu = sum(cpu_seconds(processes).values()) - cpu
        last = max(sight.at for sight in corrections.read(notes) if sight.state != corrections.LOST)
        return {"changes": changes, "per_second": changes / (last - started), "cpu_us": 1e6 * cpu / changes}

    async def fill(self) -> None:
        """Have every flight cached that readers ask for."""
        places = range(LOOKED_AT)
        for first in places[::ALL_AT_ONCE]:
            await asyncio.gather(*map(self.readers.late, places[first : first + ALL_AT_ONCE]))

    async def _write_all(self) -> int:
        flights, count = self.board.flights, 0
        updates: list[UpdateOne] = []
        for one in happenings(self.week.flights):
            if one.values:
                updates.append(UpdateOne({"_id": self.board.key(one.flight)}, {"$set": {**one.values, "now": count}}))
                count += 1
            if len(updates) == BULK:
                await flights.bulk_write(updates)
                updates = []
        if updates:
            await flights.bulk_write(updates)
        return count

    def memory_mb(self) -> float:
        """Of all that runs for the cache but the servers."""
        return sum(psutil.Process(part.pid).memory_info().rss for part in self.running.parts.values()) / 1e6


async def _until_quiet(look: Callable[[], stat_result]) -> None:
    """Until nothing was noted for a while. `look`: at the notes."""
    until = time.monotonic() + DRAIN_SECONDS
    size = first = look().st_size
    changed = time.monotonic()
    while time.monotonic() < until:
        await asyncio.sleep(QUIET_SECONDS / 20)
        if (now := look().st_size) != size:
            size, changed = now, time.monotonic()
        elif size > first and time.monotonic() - changed > QUIET_SECONDS:
            return
    raise TimeoutError(f"the backlog was not worked off within {DRAIN_SECONDS:g} s")


def first_after(
    sights: Iterable[corrections.Sighting], writes: Mapping[bytes, Sequence[tuple[float, float]]]
) -> Iterator[float]:
    """Seconds from each write's acknowledgement to the first modification after it was sent, where there is one
    before the next write. `writes`: key -> (sent, acknowledged), ascending."""
    modified: dict[bytes, list[float]] = {}
    for sight in sights:
        modified.setdefault(sight.key, []).append(sight.at)
    for key, history in writes.items():
        ends = [sent for sent, _ in history[1:]] + [float("inf")]
        for (sent, acknowledged), end in zip(history, ends, strict=True):
            following = next((at for at in modified.get(key, ()) if at >= sent), end)
            if following < end:
                yield max(0.0, following - acknowledged)
