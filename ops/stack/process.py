"""A running process: its own group, its log in a file, a stop with a deadline, no life after ours."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import Any, Protocol, Self

import neverstale
from neverstale.ops.stack import leash
from neverstale.ops.stack.errors import StackError

POLL_SECONDS = 0.02
STOP_SECONDS = 10.0
TAIL_LINES = 6
TAIL_CHARACTERS = 900
REMEDY = "correct what it says there, and try again"
PROJECT = Path(neverstale.__file__).resolve().parents[1]
"""Where `neverstale` is imported from: the checkout, or what it is installed into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to run and how to know that it is ready: enough to do it again."""

    name: str
    argv: Sequence[str | Path]
    log: Path
    ready: Callable[[], Awaitable[bool]]
    remedy: str = REMEDY
    ports: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)  # added to our own environment
    ready_seconds: float = 60.0
    death_signal: Signals = Signals.SIGKILL  # what it gets if we die first


class Program(Protocol):
    """A child process, as `subprocess.Popen` shows it."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...


class RunningProcess:
    """A started program and its process group. Holds no event loop: any loop may stop or restart it.

    `async with` stops it at the end.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._program = self._begin()

    @classmethod
    async def start(cls, launch: Launch) -> Self:
        """Run it and wait until it is ready.

        Raises:
            StackError: it exited, or was not ready in time (then it was killed); with the tail of its log.
        """
        process = cls(launch)
        try:
            await process.until_ready()
        except BaseException:
            process.kill()
            raise
        return process

    @property
    def name(self) -> str:
        return self.launch.name

    @property
    def log(self) -> Path:
        return self.launch.log

    @property
    def ports(self) -> tuple[int, ...]:
        return self.launch.ports

    @property
    def pid(self) -> int:
        return self._program.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        if self._program.returncode is None and self._program.poll() is not None:
            self._signal_group(Signals.SIGKILL)  # it may have left children of its own
        return self._program.returncode

    @property
    def alive(self) -> bool:
        return self.exit_code is None

    @property
    def obituary(self) -> str:
        """How it ended, if it did, with the tail of its log."""
        return f"{self.name} {self.ending}, its log {self.log} ends: {tail(self.log)}"

    @property
    def ending(self) -> str:
        """How it ended, if it did, in a few words."""
        return _ending(self.exit_code)

    def signal(self, number: Signals) -> None:
        """Send a signal to the process; nothing happens if it is gone."""
        if self.alive:
            os.kill(self.pid, number)  # still ours: only `exit_code` reaps it

    def kill(self) -> None:
        """End it and its children at once; they are gone when this returns."""
        if self.alive:
            self._signal_group(Signals.SIGKILL)
            self._program.wait()

    async def stop(self, grace_seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, then SIGKILL after `grace_seconds`; SIGKILL at once if that is 0 or the wait is cancelled."""
        try:
            if grace_seconds > 0:
                self.signal(Signals.SIGTERM)
                self.signal(Signals.SIGCONT)  # a frozen process would not see the first
                async with asyncio.timeout(grace_seconds):
                    await self.wait()
        except TimeoutError:
            pass
        finally:
            self.kill()

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        while True:
            if (code := self.exit_code) is not None:
                return code
            await asyncio.sleep(POLL_SECONDS)

    async def restart(self, grace_seconds: float = STOP_SECONDS) -> None:
        """Stop it if it runs, run the same again (same data, same ports) and wait until it is ready."""
        await self.stop(grace_seconds)
        self._program = self._begin()
        try:
            await self.until_ready()
        except BaseException:
            self.kill()
            raise

    async def until_ready(self) -> None:
        deadline = time.monotonic() + self.launch.ready_seconds
        while not await self.launch.ready():
            if not self.alive:
                raise StackError(f"{self.name} did not start: {self.obituary}", self.launch.remedy)
            if time.monotonic() > deadline:
                problem = f"{self.name} was not ready within {self.launch.ready_seconds:g} s"
                raise StackError(f"{problem}, its log {self.log} ends: {tail(self.log)}", self.launch.remedy)
            await asyncio.sleep(POLL_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _begin(self) -> Program:
        """Run what is to be run, in a process group of its own."""
        return _spawn(self.launch)

    def _signal_group(self, number: Signals) -> None:
        # The group's number is the leader's; no other process can get it while one of the group lives.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._program.pid, number)


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of this project with this interpreter."""
    return (sys.executable, "-m", module, *arguments)


def tail(log: Path) -> str:
    """The last words of a log, on one line."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    words = " | ".join(line.strip() for line in lines[-TAIL_LINES:] if line.strip())
    return words[-TAIL_CHARACTERS:] or "(empty)"


def version_of(binary: Path) -> str:
    """What `--version` of a server says of itself, such as 7.0.15."""
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"v=?(\d+\.\d+\.\d+)", answer.stdout)
    return match[1] if match else "of unknown version"


@asynccontextmanager
async def at_once() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose first failure, which cancels the other tasks, is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def together(*stories: Coroutine[Any, Any, None]) -> None:
    """Run all at once; the first failure cancels the others and is raised."""
    async with at_once() as group:
        for story in stories:
            group.create_task(story)


def _spawn(launch: Launch) -> subprocess.Popen[bytes]:
    launch.log.parent.mkdir(parents=True, exist_ok=True)
    paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **launch.env}
    with launch.log.open("ab") as log:
        return subprocess.Popen(
            [*_leash(launch.death_signal), *map(str, launch.argv)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            process_group=0,  # the terminal's Ctrl-C is for us; we stop our children in order
        )


def _leash(death_signal: Signals) -> tuple[str, ...]:
    if sys.platform != "linux":
        return ()
    return (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), str(int(death_signal)))


def _ending(code: int | None) -> str:
    if code is None:
        return "still runs"
    return f"was ended by {Signals(-code).name}" if code < 0 else f"exited with code {code}"
