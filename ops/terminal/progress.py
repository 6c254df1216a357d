"""How far something is, on standard error: a bar on a terminal, a line now and then elsewhere, none beside JSON."""

import sys
import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS: Final = 5.0
"""Between two lines where there is no terminal."""


class Shown:
    """Use as a context manager."""

    def __init__(self, what: str, *, quiet: bool) -> None:
        self._what = what
        self._quiet = quiet
        self._said = ""
        self._said_at = float("-inf")
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet:
            columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task(self._what, total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, state: str, passed: int, about: int) -> None:
        """`about`: an estimate of how many there are; 0: not known."""
        if self._bar is not None:
            task = self._bar.task_ids[0]
            total = max(about, passed) or None
            self._bar.update(task, description=f"{self._what}: {state}", completed=passed, total=total)
        elif not self._quiet and (state != self._said or time.monotonic() - self._said_at > LINE_SECONDS):
            self._said, self._said_at = state, time.monotonic()
            print(f"{self._what}: {state}, {passed} of about {max(about, passed)}", file=sys.stderr)
