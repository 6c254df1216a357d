"""The parts of a benchmark: each has a time of its own, and what one part's failure costs is that part.

What a part found is a mapping. One that failed or took too long has found `{"wrong": why}`, and whoever shows figures
shows that instead.
"""

import asyncio
import json
import math
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeVar

from benchmarks.targets import Line, show

WRONG: Final = "wrong"
FOUND: Final = "found"
ROUND_SECONDS: Final = 100.0

CLOSE_SECONDS: Final = 30.0
"""Beyond the time of its parts a benchmark may take so long to close what it has opened."""
NO_TIME: Final = "no time was left for it"

T = TypeVar("T")

_ends: ContextVar[float] = ContextVar("ends", default=math.inf)
"""When the time of a whole benchmark is over, by the monotonic clock."""


def options(parser: ArgumentParser, within: float) -> None:
    """What every benchmark may be told."""
    parser.add_argument("--within", type=float, default=within, help="seconds; what is found by then is reported")
    parser.add_argument("--json", type=Path)


def measured(name: str, measuring: Coroutine[Any, Any, T], given: Namespace) -> T | None:
    """What was measured. Parts end when `given.within` is over; `None`: nothing was found, and that is said and
    written."""

    async def whole() -> dict[str, T]:
        _ends.set(time.monotonic() + given.within)
        return {FOUND: await measuring}

    found = asyncio.run(attempt(whole(), given.within + CLOSE_SECONDS))
    if line := failed(name, found):
        show([line])
        if given.json:
            given.json.write_text(json.dumps(found, indent=2) + "\n")
        return None
    whatever: T = found[FOUND]
    return whatever


def left() -> float:
    """Seconds of the whole benchmark's time."""
    return _ends.get() - time.monotonic()


async def repeated(
    times: int, once: Callable[[int], Awaitable[T]], seconds: float = ROUND_SECONDS
) -> tuple[list[T], list[str]]:
    """What the rounds found that came to an end, and why the others did not; `SystemExit` if none did. `once` is told
    the number of its round."""
    found: list[T] = []
    wrong: list[str] = []

    async def one(number: int) -> dict[str, T]:
        return {FOUND: await once(number)}

    for number in range(times):
        told = await attempt(one(number), seconds)
        if WRONG in told:
            wrong.append(f"round {number + 1}: {told[WRONG]}")
            print(wrong[-1], flush=True)
        else:
            found.append(told[FOUND])
    if not found:
        raise SystemExit("; ".join(wrong))
    return found, wrong


async def attempt(work: Coroutine[Any, Any, Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """What the work found, or why it found nothing. Only an interrupt gets through. It ends with its benchmark's
    time, at the latest."""
    seconds = min(seconds, left())
    if seconds <= 0:
        work.close()
        return {WRONG: NO_TIME}
    try:
        async with asyncio.timeout(seconds) as limit:
            return dict(await work)
    except (Exception, SystemExit) as error:
        if isinstance(error, TimeoutError) and limit.expired():
            return {WRONG: f"it was not done within {seconds:.3g} s"}
        return {WRONG: reason(error)}


def reason(error: BaseException) -> str:
    """In one line: what kind of error it is, and what it says."""
    said = " ".join(str(error).split())
    kind = "" if isinstance(error, SystemExit) else type(error).__name__
    return ": ".join(filter(None, (kind, said)))


def failed(name: str, found: Mapping[str, Any]) -> Line | None:
    """The line that stands for a part that found nothing; `None`: it found something."""
    why = found.get(WRONG)
    return Line(name, f"failed: {why}", "", good=False) if isinstance(why, str) else None
