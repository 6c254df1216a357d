"""Keys that change: files that are read again when they change, and the published keys of an identity provider.

What cannot be read or fetched again leaves what held before in force, and says so: an API that cannot look at its
keys goes on with those that it knows. Published keys are believed for `callers.jwks_kept_seconds`, since a key that
was withdrawn meanwhile would be, too.
"""

import asyncio
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Final, NoReturn

from neverstale.api.callers.identify import Callers
from neverstale.api.callers.key_file import KeyFile, StaticKeys
from neverstale.api.callers.key_set import MOST_BYTES, KeySet, WrongKeySet
from neverstale.errors import Misconfigured
from neverstale.links.fetching import fetched
from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.role.tasks import Tasks
from neverstale.settings import CallerSettings

log = telemetry.logger(__name__)

Stamp = tuple[int, int, int] | None
"""What tells that a file is another one: its node, size and time; `None`: there is none."""
RETRY_SECONDS: Final = 5.0
"""After a fetch that failed."""


class FreshKeys:
    """Keeps the keys of `Callers` as files and identity provider have them."""

    def __init__(
        self,
        settings: CallerSettings,
        callers: Callers,
        tasks: Tasks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._callers = callers
        self._tasks = tasks
        self._clock = clock
        self._fetched = float("-inf")
        self._next_fetch = float("-inf")
        self._stamps: dict[Path, Stamp] = {}
        if settings.takes_tokens:
            callers.fetch = self.fetch

    def begin(self) -> None:
        """Reads the files for the first time. Raises `Misconfigured`: nobody could say who he is."""
        if (path := self._settings.keys_file) is not None:
            self._stamps[path] = stamp_of(path)
            keys = KeyFile.read(path).keys
            self._callers.take_keys(StaticKeys(keys))
            log.info("callers_keys", file=str(path), keys=len(keys))
        if (path := self._settings.jwks_file) is not None:
            self._stamps[path] = stamp_of(path)
            self._callers.take_key_set(_key_set_in(path))

    async def keep(self) -> NoReturn:
        """Looks for changes, for ever."""
        await forever(self._look)

    async def _look(self) -> float:
        if (path := self._settings.keys_file) is not None and self._has_changed(path):
            await self._read_keys(path)
        if (path := self._settings.jwks_file) is not None and self._has_changed(path):
            await self._read_key_set(path)
        if self._settings.jwks_url is not None and self._clock() >= self._next_fetch:
            await self.fetch()
        return self._settings.reload_seconds

    def _has_changed(self, path: Path) -> bool:
        stamp = stamp_of(path)
        changed = stamp != self._stamps.get(path)
        self._stamps[path] = stamp
        return changed

    async def _read_keys(self, path: Path) -> None:
        try:
            held = await asyncio.to_thread(KeyFile.read, path)
        except Misconfigured as error:
            log.error("callers_keys_unreadable", reason=str(error), goes_on_with="the keys read before")
            return
        self._callers.take_keys(StaticKeys(held.keys))
        log.info("callers_keys", file=str(path), keys=len(held.keys))

    async def _read_key_set(self, path: Path) -> None:
        try:
            self._callers.take_key_set(await asyncio.to_thread(_key_set_in, path))
            log.info("callers_key_set", file=str(path))
        except Misconfigured as error:
            log.error("callers_key_set_unreadable", reason=str(error), goes_on_with="the keys read before")

    # --- published keys

    def fetch(self) -> "asyncio.Future[None]":
        """Has them fetched now; the future never fails."""
        if self._settings.jwks_url is None:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        return self._tasks.start(self._fetch(self._settings.jwks_url), "jwks")

    async def _fetch(self, url: str) -> None:
        try:
            seconds = self._settings.jwks_timeout_ms / 1000
            keys = KeySet.of(await asyncio.to_thread(fetched, url, seconds, MOST_BYTES + 1))
        except (OSError, HTTPException, ValueError, WrongKeySet) as error:
            reason = str(error) if isinstance(error, WrongKeySet) else type(error).__name__
            log.error("callers_key_set_unreadable", url=url, reason=reason)
            self._next_fetch = self._clock() + min(RETRY_SECONDS, self._settings.jwks_refresh_seconds)
            if self._clock() - self._fetched > self._settings.jwks_kept_seconds and self._callers.verifies_tokens:
                self._callers.take_key_set(None)
            return
        self._fetched = self._clock()
        self._next_fetch = self._fetched + self._settings.jwks_refresh_seconds
        self._callers.take_key_set(keys)


def check_files(settings: CallerSettings) -> None:
    """Raises `Misconfigured` if a file of keys cannot be read: an API that starts so would refuse everybody."""
    if settings.keys_file is not None:
        KeyFile.read(settings.keys_file)
    if settings.jwks_file is not None:
        _key_set_in(settings.jwks_file)


def stamp_of(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _key_set_in(path: Path) -> KeySet:
    try:
        return KeySet.of(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"callers.jwks_file {path}", f"cannot be read ({error.strerror})", "correct it") from None
    except WrongKeySet as error:
        raise Misconfigured(f"callers.jwks_file {path}", str(error), "correct it") from None
