"""What a person sees while the stack starts and stops: a moving board on a terminal, else plain lines."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn

from neverstale.ops.stack.stack import Step


class Board:
    """A `Report` for `LocalStack.start`, to be used with `with`; after `finish`, news are lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"), TextColumn("{task.description}"), console=console
        )

    def __call__(self, step: Step) -> None:
        if self._progress.live.is_started:
            self._move(step)
        else:
            self._console.out(f"{step.part} {step.state}{f': {step.detail}' if step.detail else ''}")

    def _move(self, step: Step) -> None:
        if step.part not in self._rows:
            self._rows[step.part] = self._progress.add_task("", total=1)
        self._progress.update(
            self._rows[step.part],
            description=f"[bold]{step.part:<12}[/bold] {escape(step.detail or step.state)}",
            completed=int(step.state == "ready"),
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> None:
        """Leave the board as it is; further news are lines."""
        if self._progress.live.is_started:
            self._progress.stop()
