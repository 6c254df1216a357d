"""What one unbroken subscription has heard, and what that is worth.

Announcements count only in full: a missing number, a mark about another Redis, or a partition whose marks come from a
new publisher (whose predecessor may have said something last that was not heard) end a hearing. All it said so far is
void, and another one begins.
"""

from collections.abc import Callable

from neverstale.announcements import AnnouncedMarks, Announcement
from neverstale.versions import Version


class Broken(Exception):
    """Something may not have been heard."""


class Hearing:
    """`identity`: the Redis that the subscription leads to. `note` is told of every mark that counts."""

    def __init__(self, identity: str, note: Callable[[Version, int], None]) -> None:
        self._identity = identity
        self._note = note
        self._numbers: dict[str, int] = {}
        self._marks: dict[int, Version] = {}
        self._publishers: dict[int, str] = {}
        self._partitions = 0

    @property
    def watermark(self) -> Version:
        """Everything up to here was announced, or applied before this hearing began; 0: unknown yet."""
        if not self._partitions or not self._marks.keys() >= set(range(self._partitions)):
            return 0
        return min(self._marks[partition] for partition in range(self._partitions))

    def follows(self, announcement: Announcement) -> None:
        """Note the number; raises `Broken` if one before it is missing. What comes twice may be applied twice."""
        publisher, number = announcement.publisher, announcement.number
        last = self._numbers.get(publisher)
        if last is not None and number > last + 1:
            raise Broken(f"announcements {last + 1} to {number - 1} of a publisher are missing")
        self._numbers[publisher] = number if last is None else max(last, number)

    def mark(self, publisher: str, marks: AnnouncedMarks) -> None:
        """Take in marks. Comes after the changes that were announced before them have been dropped."""
        if marks.identity != self._identity:
            raise Broken("marks of another Redis")
        if marks.partitions != self._partitions and self._partitions:
            raise Broken("the number of partitions changed")
        self._partitions = marks.partitions
        for partition, (version, wall_ms) in marks.by_partition.items():
            if self._publishers.setdefault(partition, publisher) != publisher:
                raise Broken(f"partition {partition} has another publisher")
            self._marks[partition] = max(version, self._marks.get(partition, 0))
            self._note(version, wall_ms)
