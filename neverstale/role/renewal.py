"""Renewal: a process takes up another catalog, or other settings, by starting again in its own place.

Its files are read and checked first, by SIGHUP or because the catalog file changed. What cannot be taken up is said,
and what runs goes on with what it has. Otherwise the process ends as if it was told to, and executes itself: the same
process id, the same command line, nothing left of what was declared before. An API keeps its listening socket
meanwhile, so that whoever connects waits and is not refused.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.role.tasks import cancelled
from neverstale.settings import Settings

if TYPE_CHECKING:
    from neverstale.role.service import Health

log = telemetry.logger(__name__)

LOOK_SECONDS: Final = 1.0
PART: Final = "catalog"
"""Of `/readyz`."""

Read: TypeAlias = Callable[[], tuple[Settings, Catalog]]
_Stamp: TypeAlias = tuple[int, int, int] | None


class CatalogFile:
    """A catalog file, beside the catalog that a process runs with."""

    def __init__(self, path: Path, catalog: Catalog) -> None:
        self._path = path
        self._catalog = catalog
        self._stamp: _Stamp = None
        self._settled = False
        self.refused: str | None = None
        """Why what it says cannot be taken up."""

    def look(self) -> bool:
        """Whether it declares something else by now. It is read when it has rested between two looks: before that
        somebody may still be writing it."""
        stamp = _stamp_of(self._path)
        if stamp != self._stamp:
            self._stamp, self._settled = stamp, False
            return False
        if self._settled:
            return False
        self._settled = True
        try:
            another = Catalog.load(self._path) != self._catalog
        except Misconfigured as error:
            self.refused = str(error)
            return False
        self.refused = None
        return another

    def tell(self, health: "Health") -> None:
        """Note in `/readyz` and in the metrics whether it is refused. Nobody is less ready for that."""
        telemetry.CATALOG_REFUSED.set(self.refused is not None)
        if self.refused is not None:
            health.note(PART, f"refused, the one before is in use: {self.refused}", LOOK_SECONDS * 10)
        else:
            health.noted.pop(PART, None)

    async def keep_telling(self, health: "Health") -> NoReturn:
        """Look and tell, for ever: of a process that somebody else starts again."""

        async def look() -> float:
            self.look()
            self.tell(health)
            return LOOK_SECONDS

        await forever(look)


class Renewal:
    """Decides whether this process starts again. `read` reads and checks its files as at its start."""

    def __init__(self, read: Read, file: CatalogFile, *, by_itself: bool) -> None:
        """`by_itself`: a catalog file that changed is taken up without being asked."""
        self._read = read
        self._by_itself = by_itself
        self._said: str | None = None
        self.file = file
        self.granted = False
        self.before_end: Callable[[], None] = lambda: None
        """Called when it is granted, before anything ends."""

    def is_due(self) -> tuple[Settings, Catalog] | None:
        """What to start with, if the catalog file has changed. To be asked again and again."""
        found = self._checked("its catalog changed") if self.file.look() and self._by_itself else None
        self._say()
        return found

    def is_asked(self) -> tuple[Settings, Catalog] | None:
        """What to start with; somebody has asked for it."""
        found = self._checked("asked")
        self._say()
        return found

    def grant(self) -> None:
        self.granted = True
        self.before_end()

    def start_again(self) -> NoReturn:
        """Replace this process by a new one of the same command."""
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _checked(self, reason: str) -> tuple[Settings, Catalog] | None:
        try:
            found = self._read()
        except Misconfigured as error:
            self.file.refused = str(error)
            return None
        self.file.refused = None
        log.info("renewing", reason=reason)
        return found

    def _say(self) -> None:
        if self.file.refused != self._said and self.file.refused is not None:
            log.error("catalog_refused", reason=self.file.refused)
        self._said = self.file.refused


@contextlib.asynccontextmanager
async def renewing(
    renewal: Renewal, stop: asyncio.Event, health: "Health", drain_seconds: float
) -> AsyncIterator[None]:
    """While inside, SIGHUP and a changed file set `stop` once what they bring is found good. On a terminal SIGHUP
    means that the terminal is gone, and ends the process as ever."""
    loop = asyncio.get_running_loop()

    def renew() -> None:
        if not stop.is_set():
            renewal.grant()
            stop.set()
            loop.call_later(drain_seconds, renewal.start_again)

    def on_signal() -> None:
        if renewal.is_asked() is not None:
            renew()

    async def look() -> float:
        if renewal.is_due() is not None:
            renew()
        renewal.file.tell(health)
        return LOOK_SECONDS

    if not on_terminal():
        loop.add_signal_handler(signal.SIGHUP, on_signal)
    looking = asyncio.create_task(forever(look), name="catalog-file")
    try:
        yield
    finally:
        await cancelled(looking)


def on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _stamp_of(path: Path) -> _Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
