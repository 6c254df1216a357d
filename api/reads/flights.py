"""Flights: keys on their way into the cache; and how long those of other processes are waited for."""

from dataclasses import dataclass
from typing import Final

from api.reads.ask import Ask
from neverstale.mongodb.loader import Snapshot

FIRST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.08


@dataclass(slots=True, eq=False)
class Flight:
    """One key on its way into the cache, and everybody who waits for it."""

    first: Ask
    asks: list[Ask]
    """None: the first was content with a stale body, and what is read is for those who come after."""
    landed: Snapshot | None = None
    """What was read; from now on it is being filled."""

    @property
    def entry_key(self) -> bytes:
        return self.first.entry_key


@dataclass(frozen=True, slots=True)
class LeasePatience:
    """How long others' leases are waited for."""

    until: float
    pause: float = FIRST_PAUSE

    def less(self) -> "LeasePatience":
        return LeasePatience(self.until, min(2 * self.pause, LONGEST_PAUSE))
