"""Announcements: what consumers tell every API process on one Redis channel, `Names.announcements`.

A message names its publisher and has a number that counts up, so that a hearer knows when one is missing. A batch's
changes are announced in the pipeline that applied them, after they were applied and before their offsets are
committed; the groups of lists that it changed after that; the marks of the batch in the pipeline that stores them as
watermarks, so after its changes. From that follows, for an unbroken hearer: whoever has heard a mark has heard of
every change up to it, or the change was applied before it began to hear. When a partition changes hands, the
successor announces again what was not committed.

Groups of lists are named `resource|list|slot`, as their tags are (see `neverstale.derived.names.slot_of`); `*` stands
for all of them. What a successor announces of those may be less than its predecessor would have, since by then the
contributions are replaced; but whoever hears marks of a partition from another publisher begins to hear anew.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from neverstale.versions import Version, from_hex, to_hex

EVERY: Final = "*"


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
    groups: Sequence[str] = ()
    """Of lists, of which pages may have changed."""
    marks: AnnouncedMarks | None = None


class Announcer:
    """One publisher's messages, each with the next number."""

    def __init__(self, publisher: str | None = None) -> None:
        self._publisher = publisher or secrets.token_hex(8)
        self._number = 0

    def changes(self, keys: Sequence[bytes], floors: Collection[str]) -> bytes:
        return self._encode({"keys": [key.decode() for key in keys], "floors": list(floors)})

    def groups(self, groups: Collection[str]) -> bytes:
        return self._encode({"groups": list(groups)})

    def marks(self, identity: str, partitions: int, marks: Mapping[int, tuple[Version, int]]) -> bytes:
        told = [(partition, to_hex(version), wall_ms) for partition, (version, wall_ms) in marks.items()]
        return self._encode({"redis": identity, "partitions": partitions, "marks": told})

    def _encode(self, said: Mapping[str, Any]) -> bytes:
        self._number += 1
        return orjson.dumps({"by": self._publisher, "n": self._number, **said})


def group_name(resource: str, list_name: str = EVERY, slot: bytes = b"") -> str:
    """How a group of a list is announced; without a slot all of the list's, without a list all of the resource's."""
    return f"{resource}|{list_name}|{slot.decode() or EVERY}"


def decode(message: bytes) -> Announcement:
    try:
        said = orjson.loads(message)
        marks = None
        if "marks" in said:
            by_partition = {int(partition): (from_hex(ver), int(wall)) for partition, ver, wall in said["marks"]}
            marks = AnnouncedMarks(said["redis"], int(said["partitions"]), by_partition)
        publisher, number = said["by"], int(said["n"])
        keys, floors, groups = (said.get(name, ()) for name in ("keys", "floors", "groups"))
        return Announcement(publisher, number, keys, floors, groups, marks)
    except (ValueError, KeyError, TypeError) as error:
        raise Unreadable(f"malformed announcement: {error}") from None
