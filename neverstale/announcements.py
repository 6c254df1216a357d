"""Announcements: what consumers tell every API process on one Redis channel, `Names.announcements`.

A message names its publisher and has a number that counts up, so that a hearer knows when one is missing. A batch's
changes are announced in the pipeline that applied them, after they were applied and before their offsets are
committed; the marks of the batch in the pipeline that stores them as watermarks, so after its changes. From that
follows, for an unbroken hearer: whoever has heard a mark has heard of every change up to it, or the change was
applied before it began to hear. When a partition changes hands, the successor announces again what was not committed.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from neverstale.versions import Version, from_hex, to_hex


class Unreadable(ValueError):
    """A message that this release cannot read: it may have said anything."""


@dataclass(frozen=True, slots=True)
class AnnouncedMarks:
    """Everything up to these versions was applied to one Redis, and announced there."""

    identity: str
    partitions: int
    """How many the topic has."""
    by_partition: Mapping[int, tuple[Version, int]]
    """Partition -> version and wall time in ms of its last mark."""


@dataclass(frozen=True, slots=True)
class Announcement:
    publisher: str
    number: int
    keys: Sequence[str] = ()
    """Entries that changed, whether Redis held them or not."""
    floors: Sequence[str] = ()
    """Collections of which everything may have changed."""
    marks: AnnouncedMarks | None = None


class Announcer:
    """One publisher's messages, each with the next number."""

    def __init__(self, publisher: str | None = None) -> None:
        self._publisher = publisher or secrets.token_hex(8)
        self._number = 0

    def changes(self, keys: Sequence[bytes], floors: Collection[str]) -> bytes:
        return self._encode({"keys": [key.decode() for key in keys], "floors": list(floors)})

    def marks(self, identity: str, partitions: int, marks: Mapping[int, tuple[Version, int]]) -> bytes:
        told = [(partition, to_hex(version), wall_ms) for partition, (version, wall_ms) in marks.items()]
        return self._encode({"redis": identity, "partitions": partitions, "marks": told})

    def _encode(self, said: Mapping[str, Any]) -> bytes:
        self._number += 1
        return orjson.dumps({"by": self._publisher, "n": self._number, **said})


def decode(message: bytes) -> Announcement:
    try:
        said = orjson.loads(message)
        marks = None
        if "marks" in said:
            by_partition = {int(partition): (from_hex(ver), int(wall)) for partition, ver, wall in said["marks"]}
            marks = AnnouncedMarks(said["redis"], int(said["partitions"]), by_partition)
        return Announcement(said["by"], int(said["n"]), said.get("keys", ()), said.get("floors", ()), marks)
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"malformed announcement: {error}") from None
