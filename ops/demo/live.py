"""One moving line while the demo runs; on anything but a terminal, only what happens is told."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rich.console import Console

REFRESH_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class LiveMoment:
    """The counts at one time."""

    at: float
    changes: int
    documents: int
    hits: int


class Live:
    """Shows rates and the board's time."""

    def __init__(
        self, console: Console, seconds: float, moment: Callable[[], LiveMoment], clock: Callable[[], str]
    ) -> None:
        self._console = console
        self._seconds = seconds
        self._moment = moment
        self._clock = clock

    def tell(self, what: str) -> None:
        self._console.out(what)

    async def show(self) -> None:
        """Until cancelled."""
        if not self._console.is_terminal:
            return
        first = last = self._moment()
        with self._console.status("") as status:
            while True:
                await asyncio.sleep(REFRESH_SECONDS)
                now = self._moment()
                status.update(self._line(first, last, now))
                last = now

    def _line(self, first: LiveMoment, last: LiveMoment, now: LiveMoment) -> str:
        span = now.at - last.at
        changed = now.changes - last.changes
        read = now.documents - last.documents
        ratio = f"{(now.hits - last.hits) / read:4.0%}" if read else "   -"
        return (
            f"{now.at - first.at:3.0f} of {self._seconds:g} s   {changed / span:6,.0f} changes/s   "
            f"{read / span:7,.0f} reads/s   {ratio} from the cache   board at {self._clock()}"
        )
