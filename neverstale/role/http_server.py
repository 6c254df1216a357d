"""The HTTP server of a role."""

import asyncio
import contextlib
from collections.abc import Generator
from types import FrameType
from typing import Final

import uvicorn

from neverstale.role.ticks import until_tick

TICK_SECONDS: Final = 1.0


class RoleServer(uvicorn.Server):
    """Uvicorn's server, which ends at once when it is asked to, and until then wakes once a second, for the header
    `Date`. Uvicorn's own looks ten times a second whether it was asked, and an idle role would do little else.

    `takes_signals`: as uvicorn does. Else they are left to the role, which has a shutdown rule of its own.
    """

    def __init__(self, config: uvicorn.Config, *, takes_signals: bool = False) -> None:
        self._asked = asyncio.Event()
        self._takes_signals = takes_signals
        super().__init__(config)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        with super().capture_signals() if self._takes_signals else contextlib.nullcontext():
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        asyncio.get_running_loop().call_soon_threadsafe(lambda: None)  # a handler wakes no loop that rests

    @property
    def should_exit(self) -> bool:
        return self._asked.is_set()

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        if value:
            self._asked.set()
        else:
            self._asked.clear()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_tick(TICK_SECONDS)):
                    await self._asked.wait()
