"""Starting again what died: a role, or a server that finds its data or needs none.

What dies at once, again and again, is not started for ever: whoever looks on is told why it ends. The embedded broker
is not started again at all, for it would forget every record and listen elsewhere.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from neverstale.ops.stack.embedded_broker import EmbeddedBroker
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.process import REMEDY, RunningProcess
from neverstale.ops.stack.stack import LocalStack
from neverstale.role.retry import pauses

MOST_DEATHS: Final = 5
WITHIN_SECONDS: Final = 60.0
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0


@dataclass
class Revival:
    """`say` is given a line for people, whenever something died and is started again."""

    stack: LocalStack
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    _deaths: defaultdict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque), init=False)

    async def keep(self) -> NoReturn:
        """Look until cancelled. `StackError`: something died that cannot be started again, or too often."""
        try:
            async with asyncio.TaskGroup() as group:
                for process in self.stack.processes:
                    group.create_task(self._keep(process), name=f"revive-{process.name}")
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        raise AssertionError("keeping never ends")

    async def _keep(self, process: RunningProcess) -> NoReturn:
        attempts = pauses(first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
        while True:
            await process.wait()
            deaths = self._count(process)
            if deaths == 1:
                attempts = pauses(first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)
            self.say(f"{process.name} {process.ending}; it is started again ({deaths} of {MOST_DEATHS - 1})")
            await asyncio.sleep(next(attempts))
            try:
                await process.restart()
            except StackError:
                continue  # which is another death
            self.say(f"{process.name} runs again")

    def _count(self, process: RunningProcess) -> int:
        """How often it died of late, this time included."""
        if isinstance(process, EmbeddedBroker):
            raise StackError(f"{process.obituary}; it has forgotten every record", REMEDY)
        now, deaths = self.clock(), self._deaths[process.name]
        deaths.append(now)
        while deaths[0] < now - WITHIN_SECONDS:
            deaths.popleft()
        if len(deaths) >= MOST_DEATHS:
            often = f"{process.name} died {len(deaths)} times within {WITHIN_SECONDS:g} s"
            raise StackError(f"{often}: {process.obituary}", REMEDY)
        return len(deaths)
