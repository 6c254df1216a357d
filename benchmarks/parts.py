"""The parts of a benchmark: each has a time of its own, and what one part's failure costs is that part.

What a part found is a mapping. One that failed or took too long has found `{"wrong": why}`, and whoever shows figures
shows that instead.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Final

from benchmarks.targets import Line

WRONG: Final = "wrong"


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
    return Line(name, f"failed: {found[WRONG]}", "", good=False) if WRONG in found else None
