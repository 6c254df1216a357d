"""How much readers ask for, as the processes of the API count it: the auditor's share is measured by that."""

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from neverstale.ops.http_client import Connection

SECONDS: Final = 3.0
LEAST: Final = 20.0
"""Reads a second that the auditor makes however little is asked for."""
_READS: Final = re.compile(rb"^neverstale_reads_total\{[^}]*\} ([0-9.e+]+)$", re.M)


class Traffic:
    def __init__(self) -> None:
        self._reads: dict[str, float] = {}
        self._at = time.monotonic()
        self.per_second: float | None = None
        """`None`: not known yet."""

    async def look(self, urls: Sequence[str]) -> None:
        """Ask all; what a process does not tell counts as nothing."""
        now = time.monotonic()
        told = {url: reads for url in urls if (reads := await _reads_of(url)) is not None}
        known = told.keys() & self._reads.keys()
        if known and now > self._at:
            grown = sum(max(0.0, told[url] - self._reads[url]) for url in known)
            self.per_second = grown / (now - self._at)
        self._reads, self._at = told, now

    def allowed(self, share_percent: float, most: float) -> float:
        """Reads a second that the auditor may make; where nobody tells what readers ask for, the most."""
        if self.per_second is None:
            return most
        return min(most, max(LEAST, self.per_second * share_percent / 100))


async def _reads_of(url: str) -> float | None:
    with suppress(OSError, TimeoutError):
        connection = await Connection.open(url)
        try:
            answer = await connection.get("/metrics", SECONDS)
        finally:
            connection.close()
        if answer.status == 200:
            return sum(map(float, _READS.findall(answer.body)))
    return None
