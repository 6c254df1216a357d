"""What `applyOps` writes: change streams tell of it from MongoDB 7.0 on.

Before that nobody is told when `mongorestore --oplogReplay`, wal-g or a migration tool writes so. What the cache
holds of such a document is wrong then, and so is its bound; nothing that we do can see it. So it is said wherever
people look, with what to do afterwards, for as long as MongoDB is that old.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from neverstale.role import telemetry
from neverstale.role.retry import forever
from neverstale.role.service import Health

log = telemetry.logger(__name__)

TOLD_SINCE: Final = (7, 0)
UNTOLD: Final = "before MongoDB 7.0 nothing tells of what applyOps writes (mongorestore --oplogReplay, wal-g)"
REMEDY: Final = "after such a restore: neverstale resync RESOURCE  # for each"
PART: Final = "apply_ops"
"""In `/readyz`."""
SECONDS: Final = 5.0
"""Deadline of one question."""
LOOK_SECONDS: Final = 10.0
"""Between two looks: a replica set may be upgraded while we run."""
AGAIN_SECONDS: Final = 1.0
"""After a look that failed."""


def is_told(version: Sequence[int]) -> bool:
    """Whether a server of this version tells of what `applyOps` writes."""
    return tuple(version[:2]) >= TOLD_SINCE


class ApplyOpsGap:
    """Whether the primary leaves us in the dark about it; `health` and the log say so while it does."""

    def __init__(self, client: AsyncMongoClient[dict[str, Any]], health: Health) -> None:
        self._client = client
        self._health = health
        self.note: str | None = None
        """What is not told, and what to do; `None`: all is told, or nobody knows yet."""

    async def keep(self) -> NoReturn:
        """Look now and then, until cancelled."""
        await forever(self.look)

    async def look(self) -> float:
        """Look once; returns how many seconds to wait before the next look."""
        try:
            with pymongo.timeout(SECONDS):
                found = await self._client.admin.command("buildInfo")
        except PyMongoError:
            return AGAIN_SECONDS  # whoever reads says what is wrong
        self._take(found["versionArray"], found["version"])
        return LOOK_SECONDS

    def _take(self, version: Sequence[int], shown: str) -> None:
        if is_told(version):
            if self.note is not None:
                log.info("apply_ops_told", version=shown)
            self.note = None
            self._health.noted.pop(PART, None)
        elif self.note is None:
            self.note = f"{UNTOLD}; {REMEDY}"
            self._health.note(PART, self.note, math.inf)
            log.warning("apply_ops_untold", version=shown, reason=UNTOLD, remedy=REMEDY)
