"""One server for all workers of a run: started by the first that needs it, stopped when the last is done with it.

A broker takes 1.5 CPU seconds to start, and 2 % of a core when nobody asks it anything; each of them also compiles by
itself what it does often.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Protocol


class Killable(Protocol):
    def kill(self) -> None: ...


Start = Callable[[Path], tuple[Killable, str]]
"""Starts a server with its data in this folder, and returns it with its address."""
RUN: Final = "PYTEST_XDIST_TESTRUNUID"
"""Of the environment: what the workers of a run have in common."""


class Shared:
    """As one worker sees it."""

    def __init__(self, name: str, start: Start, run: str | None = None) -> None:
        """`run`: names those who share it; by default the run's workers."""
        run = run or os.environ.get(RUN) or f"alone-{os.getpid()}"
        self._folder = Path(tempfile.gettempdir()) / f"neverstale-tests-{name}-{run}"
        self._start = start
        self._address: str | None = None
        self._mine: Killable | None = None
        self._exits = ExitStack()

    def address(self) -> str:
        """Where it is; it stays there until `leave`."""
        if self._address is None:
            self._folder.mkdir(exist_ok=True)
            self._used = self._exits.enter_context((self._folder / "used").open("w"))
            fcntl.flock(self._used, fcntl.LOCK_SH)
            with self._alone():
                told = self._folder / "address"
                if not told.exists():
                    self._mine, address = self._start(self._folder)
                    told.write_text(address)
                self._address = told.read_text()
        return self._address

    def leave(self) -> None:
        """It is needed no more here. Who has started it waits for all others, and stops it."""
        if self._mine is not None:
            fcntl.flock(self._used, fcntl.LOCK_EX)
            (self._folder / "address").unlink()
            self._mine.kill()
            shutil.rmtree(self._folder, ignore_errors=True)
        self._exits.close()
        self._address = self._mine = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._folder / "starting").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
