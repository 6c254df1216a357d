"""What runs beside a role's story.

A role has one story: it reads the stream, applies batches, answers requests. If that fails the process ends, and the
log names the task that failed (`neverstale.role.service`); whoever started the process starts it again. What runs
beside it is kept here: whatever it raises, it is started again after a pause that grows, is counted, and `/readyz`
says so. It does not end the process, because what makes one process fail (an odd message, an odd document) mostly
makes all of them fail, and an API without its channel still answers truly.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Final, Self

from neverstale.role import telemetry
from neverstale.role.cancellation import heed
from neverstale.role.retry import pauses
from neverstale.role.service import Health
from neverstale.role.tasks import Ended, cancelled, in_words

log = telemetry.logger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 10.0
"""A task that was started again and lives so long is well."""

Work = Callable[[], Awaitable[object]]
_PAUSES: Final = partial(pauses, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS)


class Supervised:
    """Named tasks without end, until the block ends."""

    def __init__(self, health: Health, new_pauses: Callable[[], Iterator[float]] = _PAUSES) -> None:
        self._health = health
        self._new_pauses = new_pauses
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._tasks)

    def keep(self, name: str, work: Work) -> None:
        """Run `work()`, which never ends by itself, and call it again whenever it has ended."""
        assert name not in self._tasks, f"there are two tasks {name}"
        self._tasks[name] = asyncio.create_task(self._keep(name, work), name=name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await cancelled(*self._tasks.values())

    async def _keep(self, name: str, work: Work) -> None:
        loop, attempts, deaths = asyncio.get_running_loop(), self._new_pauses(), 0
        while True:
            begun = loop.time()
            error = await self._death(name, work, again=deaths > 0)
            if loop.time() - begun >= STEADY_SECONDS:
                attempts, deaths = self._new_pauses(), 0
            deaths += 1
            pause = next(attempts)
            telemetry.TASKS_DIED.labels(name).inc()
            self._health.wrong(part(name), f"died {deaths} times, the last time of {in_words(error)}")
            log.error("task_died", task=name, times=deaths, pause_seconds=round(pause, 2), exc_info=error)
            await asyncio.sleep(pause)

    async def _death(self, name: str, work: Work, *, again: bool) -> Exception:
        """Run it, and say why it has ended."""
        steady = asyncio.get_running_loop().call_later(STEADY_SECONDS, self._health.ok, part(name)) if again else None
        try:
            await work()
        except Exception as error:
            return error
        except asyncio.CancelledError:
            heed()
            return Ended("it was cancelled, and nobody had asked for that")
        finally:
            if steady is not None:
                steady.cancel()
        heed()
        return Ended("it came to its end")


def part(name: str) -> str:
    """What `/readyz` calls a task that has died."""
    return f"task {name}"
