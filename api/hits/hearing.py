"""What one unbroken subscription has heard, and what that is worth.

Announcements count only in full: a missing number, a mark about another Redis, or a partition whose marks come from a
new publisher (whose predecessor may have said something last that was not heard) end a hearing. All it said so far is
void, and another one begins.
"""

from collections.abc import Callable
from typing import Final

from neverstale.redis.announcements import AnnouncedMarks, Announcement, Unreadable
from neverstale.role.damage import Damage
from neverstale.versions import Version, to_hex

MOST_PUBLISHERS: Final = 1_000
"""A consumer is one, and another one whenever it starts; a hearing of more is not remembered, but begun anew."""


class BrokenSubscription(Exception):
    """Something may not have been heard."""


class Hearing:
    """`identity`: the Redis that the subscription leads to. `note` is told of every mark that counts."""

    def __init__(self, identity: str, note: Callable[[Version, int], None], damage: Damage) -> None:
        self._identity = identity
        self._damage = damage
        self._note = note
        self._numbers: dict[str, int] = {}
        self._marks: dict[int, Version] = {}
        self._publishers: dict[int, str] = {}
        self._partitions = 0

    @property
    def watermark(self) -> Version:
        """Everything up to here was announced, or applied before this hearing began; 0: unknown yet."""
        return min(self._marks.values()) if 0 < self._partitions == len(self._marks) else 0

    def follows(self, announcement: Announcement) -> None:
        """Note the number. Raises `BrokenSubscription` if one before it is missing; one may come twice."""
        publisher, number = announcement.publisher, announcement.number
        last = self._numbers.get(publisher)
        if last is not None and number > last + 1:
            raise BrokenSubscription(f"announcements {last + 1} to {number - 1} of a publisher are missing")
        if last is None and len(self._numbers) >= MOST_PUBLISHERS:
            raise BrokenSubscription("too many publishers")
        self._numbers[publisher] = number if last is None else max(last, number)

    def mark(self, publisher: str, marks: AnnouncedMarks) -> None:
        """Take in marks. Comes after the changes that were announced before them have been dropped."""
        if marks.identity != self._identity:
            raise BrokenSubscription("marks of another Redis")
        if marks.partitions != self._partitions and self._partitions:
            raise BrokenSubscription("the number of partitions changed")
        self._partitions = marks.partitions
        for partition, (version, wall_ms) in marks.by_partition.items():
            if version > self._damage.latest() or self._damage.is_ahead(wall_ms):
                raise Unreadable(f"mark {to_hex(version)}, wall time {wall_ms}, lies ahead of MongoDB's clock")
            if self._publishers.setdefault(partition, publisher) != publisher:
                raise BrokenSubscription(f"partition {partition} has another publisher")
            self._marks[partition] = max(version, self._marks.get(partition, 0))
            self._note(version, wall_ms)
