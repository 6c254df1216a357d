"""Tasks: each has a name, and none dies unseen. Those that never end are kept by `neverstale.role.supervised`."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from neverstale.role import telemetry

log = telemetry.logger(__name__)

T = TypeVar("T")

ASK_AGAIN_SECONDS: Final = 4.0
"""Longer than closing a client takes: whoever is cancelled while it cleans up leaves something behind."""


class Ended(Exception):
    """A task without end has ended, or was cancelled although nobody asked for it."""


_NOTE: Final = "in the task "


def in_words(error: BaseException) -> str:
    """An error in a few words; of a group, those of each error in it."""
    if isinstance(error, BaseExceptionGroup):
        return ", ".join(map(in_words, error.exceptions))
    text = str(error)
    return f"{type(error).__name__}{f': {text[:200]}' if text else ''}"


def start(group: asyncio.TaskGroup, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """A task of a group whose failure ends the group, and says which task it was (see `failed_in`)."""
    return group.create_task(named(work, name), name=name)


async def named(work: Coroutine[Any, Any, T], name: str) -> T:
    """Do `work`; its failure says that it was this."""
    try:
        return await work
    except Exception as error:
        error.add_note(_NOTE + name)
        raise


def failed_in(error: BaseException) -> list[str]:
    """Names of the tasks in which an error, or each error of a group, was raised."""
    names = [note.removeprefix(_NOTE) for note in getattr(error, "__notes__", ()) if note.startswith(_NOTE)]
    if isinstance(error, BaseExceptionGroup):
        names += [name for inner in error.exceptions for name in failed_in(inner)]
    return list(dict.fromkeys(names))


class Tasks:
    """Work that outlives the request that caused it: it ends by itself, and not because a client went away."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self, seconds: float) -> None:
        """Wait until all has ended, what was started meanwhile too; cancel what is left after `seconds`."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._running and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        while self._running:
            await cancelled(*self._running)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_died", task=task.get_name(), exc_info=error)


async def at_once(*works: Coroutine[Any, Any, None] | None) -> None:
    """Do what there is to do, all at the same time."""
    wanted = [work for work in works if work is not None]
    if len(wanted) == 1:
        await wanted[0]
    elif wanted:
        await asyncio.gather(*wanted)


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks whose results nobody wants any more, and wait until they are gone.

    A client library may swallow a cancellation: an endless task is asked again until it has ended.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=ASK_AGAIN_SECONDS)
    for task in tasks:
        looked_at(task)


def looked_at(future: asyncio.Future[Any]) -> None:
    """Take note of a failure that concerns nobody any more; asyncio would complain of it. For a done future."""
    if not future.cancelled():
        future.exception()


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> None:
    """Do `work`, but leave it when `stop` is set. Its errors are raised."""
    stopped, working = asyncio.create_task(stop.wait()), asyncio.create_task(work)
    try:
        await asyncio.wait((stopped, working), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        await cancelled(stopped, working)
