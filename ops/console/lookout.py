"""Looks at everything again and again, remembers a little, and hands each picture to whoever watches."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import orjson

from neverstale.catalog import Catalog
from neverstale.ops.check.findings import Finding
from neverstale.ops.console.carried import carried, remembered
from neverstale.ops.console.happenings import PastEvent, happened, phases_changed
from neverstale.ops.console.looks import LongLook, QuickLook, long_look, look
from neverstale.ops.console.picture import Seen, picture
from neverstale.ops.console.wrong import findings
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.settings import Settings

log = telemetry.logger(__name__)

RATES_SECONDS: Final = 5.0
"""Rates are told over so long."""
LONG_SECONDS: Final = 4.0
"""Between two long looks: `doctor` wants some seconds between two to call a partition stuck."""
UNWATCHED: Final = 10
"""While nobody watches, looks are so many times rarer."""
GONE_SECONDS: Final = 30.0
"""For so long a process that has ended is shown."""
KEPT: Final = 100
"""Happenings."""


@dataclass
class Lookout:
    """Run `keep_looking` and `keep_looking_long`."""

    settings: Settings
    catalog: Catalog
    _looks: deque[QuickLook] = field(default_factory=deque, init=False)
    _long: deque[LongLook] = field(default_factory=lambda: deque(maxlen=2), init=False)
    _happenings: deque[PastEvent] = field(default_factory=lambda: deque(maxlen=KEPT), init=False)
    _silent_since: dict[str, float] = field(default_factory=dict, init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _picture: bytes | None = field(default=None, init=False)
    _watching: int = field(default=0, init=False)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _ended: bool = field(default=False, init=False)

    @property
    def watching(self) -> int:
        """How many pages are open."""
        return self._watching

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._watching += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._watching -= 1

    async def pictures(self) -> AsyncIterator[bytes]:
        """The last picture, and each new one, until the end. Who is slow misses some."""
        if self._picture is not None:
            yield self._picture
        while not self._ended:
            await self._news.wait()
            if self._picture is not None and not self._ended:
                yield self._picture

    def end(self) -> None:
        """Let everybody go who watches."""
        self._ended = True
        self._news.set()

    async def keep_looking(self) -> NoReturn:
        async def once() -> float:
            started = time.monotonic()
            await self._look()
            period = self._period
            if not self._watching:
                self._wanted.clear()
                await _until(self._wanted, period * UNWATCHED)
                return 0.0
            return max(period - (time.monotonic() - started), period / 4)

        await forever(once)

    async def keep_looking_long(self) -> NoReturn:
        async def once() -> float:
            if self._looks:
                found = await long_look(self.settings, self.catalog, self._looks[-1].status)
                if self._long:
                    self._note(phases_changed(self._long[-1], found, round(time.time() * 1000)))
                self._long.append(found)
            elif not self._looks:
                return self._period / 4
            return LONG_SECONDS * (1 if self._watching or len(self._long) < 2 else UNWATCHED)

        await forever(once)

    @property
    def _period(self) -> float:
        return self.settings.console.period_ms / 1000

    async def _look(self) -> None:
        before = self._looks[-1] if self._looks else None
        known = [] if before is None else remembered(before.processes, self._silent_since, before.at, GONE_SECONDS)
        now = carried(before, await look(self.settings, self.catalog, [one.role for one in known]))
        if before is not None:
            self._note(happened(before, now))
        self._looks.append(now)
        while len(self._looks) > 2 and self._looks[1].at < now.at - RATES_SECONDS:
            self._looks.popleft()
        self._show(now)

    def _note(self, happenings: Iterator[PastEvent]) -> None:
        self._happenings.extendleft(happenings)

    def _show(self, now: QuickLook) -> None:
        silent = {
            one.role.instance: now.at - self._silent_since.get(one.role.instance, now.at)
            for one in now.processes
            if one.presence != "answers"
        }
        wrong: list[Finding] = findings(now, list(self._long), silent, self.settings)
        seen = Seen(list(self._looks), list(self._long), list(self._happenings), wrong, silent)
        shown: dict[str, Any] = picture(seen, self.settings, self.catalog, self._period)
        self._picture = orjson.dumps(shown)
        news, self._news = self._news, asyncio.Event()
        news.set()


async def _until(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
