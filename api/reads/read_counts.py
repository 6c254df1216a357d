"""Reads of documents, counted in the process and added to what Redis keeps of all processes, some at a time.

What Redis was not told of is lost when a process is killed: the reads of one period. While Redis is away those of
20,000 documents wait, and reads of further documents are not counted. Absent documents do not count.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NoReturn

from neverstale.errors import Outage
from neverstale.keys import Names, untagged
from neverstale.redis.most_read import DOCUMENTS_A_CALL, Popularity
from neverstale.role import telemetry
from neverstale.role.retry import forever

log = telemetry.logger(__name__)

MOST_WAITING: Final = 20_000
"""Documents whose reads wait to be told."""
NOWHERE: Final = b""
"""The entry of a document that cannot be found: nobody is told of its reads."""


def taken(counts: dict[bytes, int], most: int) -> list[tuple[bytes, int]]:
    """Removes some, at most so many, and returns them."""
    return [counts.popitem() for _ in range(min(len(counts), most))]


class ReadCounts:
    """Counts the reads of one process."""

    def __init__(self, names: Names, popularity: Popularity) -> None:
        self._names = names
        self._prefix = len(names.prefix.encode()) + 1
        self._popularity = popularity
        self._reads: dict[bytes, int] = {}

    def saw(self, entry_key: bytes, times: int = 1) -> None:
        """Counts reads of a document."""
        reads = self._reads
        try:
            reads[entry_key] += times
        except KeyError:
            if len(reads) < MOST_WAITING:
                reads[entry_key] = times

    async def keep_telling(self, period_seconds: float) -> NoReturn:
        """Tells Redis again and again, until cancelled."""

        async def tell() -> float:
            await self.tell()
            return period_seconds

        await forever(tell)

    async def tell(self) -> None:
        """Adds what was counted to what Redis keeps; what Redis does not take is counted on."""
        reads, self._reads = self._reads, {}
        reads.pop(NOWHERE, None)
        try:
            while reads:
                for resource, counts in self._by_resource(taken(reads, DOCUMENTS_A_CALL)).items():
                    await self._add(resource, counts)
        finally:
            for entry_key, count in reads.items():  # if we were cancelled
                self.saw(entry_key, count)

    async def _add(self, resource: str, counts: Mapping[str, int]) -> None:
        try:
            await self._popularity.add(resource, counts)
        except Outage as outage:
            log.debug("reads_wait", resource=resource, reason=str(outage))
            for key, count in counts.items():
                self.saw(self._names.entry(resource, key), count)

    def _by_resource(self, reads: Iterable[tuple[bytes, int]]) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for entry_key, count in reads:
            resource, _, key = untagged(entry_key[self._prefix :]).decode().partition(":d:")
            found.setdefault(resource, {})[key] = count
        return found
