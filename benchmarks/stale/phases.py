"""What is done to a cache: load, a kill of each part, a flush of Redis.

In each phase writers play the week of flights from its Monday on, with the drivers and in the ways of the demo,
while readers ask for what was written of late. When it is over, all that was written is read again, until nothing is
behind, or nothing of it has been corrected for longer than the shortest TTL: that, nobody corrects.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import psutil
from redis.asyncio import Redis

from benchmarks.beside import noting
from benchmarks.stale.caches import TTL_SECONDS, Running, delete
from benchmarks.stale.readers import LOOKED_AT, READERS, Board, Phase, Readers
from benchmarks.stale.truth import GRACE_SECONDS, Truth
from neverstale.ops.demo.flights.board import Week
from neverstale.ops.demo.flights.player import Player
from neverstale.ops.demo.flights.replay import Happening
from neverstale.ops.truth import corrections

WRITES_PER_SECOND: Final = 100.0
ALL_AT_ONCE: Final = 16
STRIKE_SECONDS: Final = 1.5
"""From the beginning of a phase."""
DEAD_SECONDS: Final = 1.0
"""Until somebody starts again what was killed."""
SETTLE_SECONDS: Final = 3.0
LOOK_SECONDS: Final = 1.0
LAST_CORRECTION_SECONDS: Final = TTL_SECONDS + 2.0
"""Without any correction for so long, none comes any more."""
WARM_SECONDS: Final = 3.0
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
        await asyncio.sleep(SETTLE_SECONDS)
        found.written = len(self.truth.written)
        behind, corrected = await self._behind(sorted(self.truth.written)), time.monotonic()
        while behind and time.monotonic() < corrected + LAST_CORRECTION_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            if len(still := await self._behind(behind)) < len(behind):
                behind, corrected = still, time.monotonic()
        found.behind = len(behind)

    async def _behind(self, places: Sequence[int]) -> list[int]:
        found: list[int] = []
        for first in range(0, len(places), ALL_AT_ONCE):
            batch = places[first : first + ALL_AT_ONCE]
            late = await asyncio.gather(*map(self.readers.late, batch))
            found += [place for place, (seconds, _) in zip(batch, late, strict=True) if seconds > GRACE_SECONDS]
        return found

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
        _, served_only = self.running.seen
        writes = {
            self.spelled(self.board.key(place)): moments for place, moments in self.truth.moments(since).items()
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

    async def fill(self) -> None:
        """Have every flight cached that readers ask for."""
        places = range(LOOKED_AT)
        for first in places[::ALL_AT_ONCE]:
            await asyncio.gather(*map(self.readers.late, places[first : first + ALL_AT_ONCE]))

    def spelled(self, key: str) -> bytes:
        """A flight's key in Redis."""
        assert self.running.seen is not None
        prefix, served_only = self.running.seen
        return f"{prefix}{'s:' if served_only else ''}{key}".encode()

    def memory_mb(self) -> float:
        """Of all that runs for the cache but the servers."""
        return sum(psutil.Process(part.pid).memory_info().rss for part in self.running.parts.values()) / 1e6


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
