"""Processes beside the measured ones: they write, or note what they see, and are weighed like the others."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from neverstale.ops.stack.process import PROJECT, Launch, RunningProcess, python

FINISH_SECONDS = 600.0


@asynccontextmanager
async def noting(name: str, command: Sequence[str], notes: Path) -> AsyncIterator[RunningProcess]:
    """`command` (a module and its arguments), once it has begun its notes; at the end they are whole."""

    async def begun() -> bool:
        return await asyncio.to_thread(lambda: notes.exists() and notes.stat().st_size > 0)

    module, *arguments = command
    launch = Launch(name=name, argv=python(module, *arguments), log=notes.with_suffix(".log"), ready=begun)
    async with await RunningProcess.start(launch) as process:
        yield process


async def finish(name: str, command: Sequence[str], log: Path) -> None:
    """Run `command` to its end; `SystemExit` with its last words if that is a bad one."""

    async def ended() -> bool:
        return process.exit_code is not None

    module, *arguments = command
    argv = python(module, *arguments)
    process = RunningProcess(Launch(name=name, argv=argv, log=log, ready=ended, ready_seconds=FINISH_SECONDS))
    try:
        await process.until_ready()
    finally:
        process.kill()
    if process.exit_code != 0:
        raise SystemExit(process.obituary)


async def figure_of(*command: str) -> float:
    """The one number that `command` (a module and its arguments) prints; `SystemExit` if it prints none."""
    module, *arguments = command
    argv = [str(word) for word in python(module, *arguments)]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, cwd=PROJECT)
    output, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"{module} ended with {process.returncode}")
    return float(output)


def cpu_seconds(processes: Iterable[RunningProcess]) -> dict[str, float]:
    """CPU time of each so far."""
    times = {process.name: psutil.Process(process.pid).cpu_times() for process in processes}
    return {name: time.user + time.system for name, time in times.items()}
