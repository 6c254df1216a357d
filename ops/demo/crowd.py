"""The demo's helpers in processes of their own: the readers, and whoever watches Redis for corrections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neverstale.keys import Names, canonical
from neverstale.ops.demo import readlog
from neverstale.ops.demo.flights.board import Week, week
from neverstale.ops.demo.gauges import Gauges
from neverstale.ops.demo.places import places
from neverstale.ops.demo.readers import GAUGES, LOG, screens
from neverstale.ops.stack.process import Launch, RunningProcess, python
from neverstale.ops.stack.stack import LocalStack
from neverstale.ops.truth import corrections
from neverstale.ops.truth.corrections import CorrectionTimes
from neverstale.ops.truth.oracle import Read, Writes
from neverstale.settings import RedisSettings

SEEN: Final = "corrections.bin"
SAMPLED: Final = 4
"""CorrectionTimes are watched for one flight in so many."""
STOP_SECONDS: Final = 15.0


def entry_keys(week: Week) -> list[bytes]:
    """The flights' keys in Redis, in the board's order."""
    names = Names(RedisSettings().prefix)
    return [names.entry("flights", canonical(flight.key)) for flight in week.flights]


@dataclass(frozen=True, slots=True)
class Crowd:
    """Running helpers. Their notes are whole once they have stopped."""

    folder: Path
    gauges: Gauges
    processes: tuple[RunningProcess, ...]

    @property
    def dead(self) -> list[str]:
        """What is said of those that ended by themselves."""
        return [process.obituary for process in self.processes if not process.alive]

    async def stop(self) -> None:
        for process in self.processes:
            await process.stop(STOP_SECONDS)

    def reads(self) -> Iterator[Read]:
        return readlog.reads(self.folder / LOG)

    def corrections(self, week: Week, writes: Writes) -> CorrectionTimes:
        """How soon the sampled writes were corrected in Redis."""
        return corrections.join(corrections.read(self.folder / SEEN), _by_entry(entry_keys(week), writes))


@asynccontextmanager
async def gather(
    stack: LocalStack, folder: Path, *, readers: int, per_second: float, seed: int
) -> AsyncIterator[Crowd]:
    """Start watching, and readers, and wait until these have read everything once; whatever still runs at the end is
    stopped."""
    gauges, seen = Gauges.create(folder / GAUGES), folder / SEEN
    prefix = Names(RedisSettings().prefix).entry_prefix("flights").decode()
    watch = ("neverstale.ops.truth.corrections", stack.redis_url, prefix, str(seen), "--one-in", str(SAMPLED))
    numbers = ("--readers", str(readers), "--per-second", str(per_second), "--seed", str(seed))
    read = ("neverstale.ops.demo.readers", stack.api_url, str(folder), *numbers)
    everything = len(screens(places(week())))

    async def watches() -> bool:
        return await asyncio.to_thread(lambda: seen.exists() and seen.stat().st_size > 0)

    async def has_read_everything() -> bool:
        return gauges["opened"] >= everything

    async with (
        await _start("corrections", watch, watches, stack.data) as watching,
        await _start("readers", read, has_read_everything, stack.data) as reading,
    ):
        yield Crowd(folder, gauges, (reading, watching))


async def _start(
    name: str, command: Sequence[str], ready: Callable[[], Awaitable[bool]], data: Path
) -> RunningProcess:
    module, *arguments = command
    launch = Launch(name=name, argv=python(module, *arguments), log=data / "logs" / f"{name}.log", ready=ready)
    return await RunningProcess.start(launch)


def _by_entry(entries: Sequence[bytes], writes: Writes) -> Mapping[bytes, Sequence[tuple[float, float]]]:
    return {entry: writes.of(place).spans for place, entry in enumerate(entries)}
