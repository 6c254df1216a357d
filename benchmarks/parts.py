"""The parts of a benchmark: each has a time of its own, and what one part's failure costs is that part.

What a part found is a mapping. One that failed or took too long has found `{"wrong": why}`, and whoever shows figures
shows that instead.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from benchmarks.targets import Line

WRONG: Final = "wrong"
FOUND: Final = "found"
ROUND_SECONDS: Final = 100.0

T = TypeVar("T")


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


async def attempt(work: Awaitable[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """What the work found, or why it found nothing. Only an interrupt gets through."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return dict(await work)
    except (Exception, SystemExit) as error:
        if isinstance(error, TimeoutError) and limit.expired():
            return {WRONG: f"it was not done within {seconds:g} s"}
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
