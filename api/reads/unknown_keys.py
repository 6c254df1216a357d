"""Who asks for what does not exist: keys that are known to have documents, and absences that may be kept.

Anybody can make up ids, as many as he likes. Each costs a read of MongoDB, and an absence that is kept costs room in
Redis. So two things are remembered of keys, in little memory: that there was a document, and that an absence was
found before. Reads of keys of which nothing is known go through a narrower door (`neverstale.api.reads.bulkhead`),
and only so many absences a second are kept, those first that are asked for again.
"""

import time
from array import array
from collections.abc import Callable
from typing import Final

from neverstale.role import telemetry
from neverstale.settings import Api

KEYS: Final = 100_000
"""How many keys one generation takes."""
_BITS: Final = 16
_MASK: Final = (1 << _BITS) - 1
BURST_SECONDS: Final = 10.0
"""Absences of so many seconds may be kept at once, after as long without any."""


class SeenKeys:
    """Keys that were met lately: two Bloom filters of 512 KiB, the older forgotten when the younger is full.

    A key sets up to four bits of one word. Of keys that were never met, fewer than one in 1,000 counts as met.
    Source: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007), blocked filters.
    """

    def __init__(self, keys: int = KEYS) -> None:
        self._keys = keys
        self._young, self._old = _filter(), _filter()
        self._room = keys

    def __contains__(self, key: bytes) -> bool:
        word, bits = _place(key)
        return self._young[word] & bits == bits or self._old[word] & bits == bits

    def add(self, key: bytes) -> None:
        word, bits = _place(key)
        if self._young[word] & bits == bits:
            return
        if not self._room:
            self._young, self._old, self._room = _filter(), self._young, self._keys
        self._room -= 1
        self._young[word] |= bits


class Doorkeeper:
    """Knows the keys that one process has met."""

    def __init__(self, settings: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._documents = SeenKeys()
        self._absences = SeenKeys()
        self._rate = settings.absences_per_second
        self._most = self._rate * BURST_SECONDS
        self._clock = clock
        self._tokens, self._since = self._most, clock()

    def knows(self, entry_key: bytes) -> bool:
        """Whether there was a document, not long ago."""
        return entry_key in self._documents

    def met(self, entry_key: bytes) -> None:
        """There is a document."""
        self._documents.add(entry_key)

    def admits(self, entry_key: bytes) -> bool:
        """Whether the absence that was just found may be kept. Half of what may be is for those found before."""
        again = entry_key in self._absences
        self._absences.add(entry_key)
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._since) * self._rate, self._most)
        self._since = now
        admitted = self._tokens >= (1 if again else 1 + self._most / 2)
        if admitted:
            self._tokens -= 1
        telemetry.ABSENCES.labels("kept" if admitted else "withheld").inc()
        return admitted


def _filter() -> "array[int]":
    return array("Q", bytes(8 << _BITS))


def _place(key: bytes) -> tuple[int, int]:
    """A word, and bits of it."""
    # Python's own hash has another key in every process, so that nobody can make up ids that look like others.
    number = hash(key)
    bits = number >> _BITS
    return number & _MASK, 1 << (bits & 63) | 1 << (bits >> 6 & 63) | 1 << (bits >> 12 & 63) | 1 << (bits >> 18 & 63)
