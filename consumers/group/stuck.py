"""Stuck: whether the client of Kafka still delivers what is there.

A client can stay alive, keep its membership and deliver nothing more, of all partitions or of one (aiokafka's issues
1037 and 1154, after a restart of a broker). Being alive is therefore not asked for but progress: a partition that
lags while fetches come back, or while one does not, must not stay where it is.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Final

from aiokafka.errors import KafkaError

STUCK_SECONDS: Final = 5.0
"""Far above the time that a broker takes to hand out what it has."""
FETCHES: Final = 2
"""So many fetches must have come back without moving a partition; one may have been under way already."""


class Stuck(KafkaError):  # type: ignore[misc]
    """This client delivers nothing more; another one will."""


class Progress:
    """Watches whether the partitions of one client move."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._fetches = 0
        self._fetching_since: float | None = None
        self._behind: dict[Hashable, tuple[int, float, int]] = {}
        """Partition that lags -> its position, since when, and how many fetches had come back then."""

    def fetching(self) -> None:
        self._fetching_since = self._clock()

    def fetched(self) -> None:
        self._fetches += 1
        self._fetching_since = None

    def forget(self) -> None:
        """The partitions may be others, or the brokers were away: what was noted says nothing."""
        self._behind.clear()

    def look(self, positions: Mapping[Hashable, int], ends: Mapping[Hashable, int]) -> None:
        """Raises `Stuck` if a partition has lagged and not moved for too long.

        While nothing is fetched, because what was fetched cannot be applied, nothing needs to move.
        """
        now = self._clock()
        before, self._behind = self._behind, {}
        for partition, position in positions.items():
            if position >= ends.get(partition, 0):
                continue
            held = before.get(partition)
            if held is None or held[0] != position:
                held = (position, now, self._fetches)
            self._behind[partition] = held
            if now - held[1] > STUCK_SECONDS and self._delivers_nothing(held[2], now):
                raise Stuck(f"{partition} lags and stays at {position} for {now - held[1]:.1f} s")

    def _delivers_nothing(self, fetches: int, now: float) -> bool:
        hangs = self._fetching_since is not None and now - self._fetching_since > STUCK_SECONDS
        return hangs or self._fetches - fetches >= FETCHES
