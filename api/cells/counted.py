"""The number of partitions, on which depends in which cell a document lies (`neverstale.redis.partition_counts`)."""

from collections.abc import Callable
from typing import Final, NoReturn

from neverstale.errors import Outage
from neverstale.redis import partition_counts
from neverstale.redis.commands import Commands
from neverstale.role import telemetry
from neverstale.role.retry import forever

log = telemetry.logger(__name__)

LOOK_SECONDS: Final = 0.25


class PartitionCount:
    """The number that this process goes by. `on_change` is called when it has become another one."""

    def __init__(self, redis: Commands, watchers: str, on_change: Callable[[int], None]) -> None:
        self.now: int | None = None
        """`None`: unknown, no document can be found in Redis."""
        self._redis = redis
        self._watchers = watchers
        self._on_change = on_change

    async def keep(self) -> NoReturn:
        """Look again and again, until cancelled."""
        await forever(self.look)

    async def look(self) -> float:
        """Look once. An outage changes nothing that is known: cells of a former number say themselves how old they
        are."""
        try:
            found = await partition_counts.known(self._redis, self._watchers)
        except Outage:
            return LOOK_SECONDS
        if found is not None and found != self.now:
            log.info("partitions", partitions=found, before=self.now)
            self.now = found
            self._on_change(found)
        return LOOK_SECONDS
