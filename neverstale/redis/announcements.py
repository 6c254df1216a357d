"""Announcements: what consumers tell every API process on one Redis channel, `Names.announcements`.

A message names its publisher and has a number that counts up, so that a hearer knows when one is missing. A batch's
changes are announced in the pipeline that applied them, after they were applied and before their offsets are
committed; the groups of lists that it changed after that; the marks of the batch in the pipeline that stores them as
watermarks, so after its changes. From that follows, for an unbroken hearer: whoever has heard a mark has heard of
every change up to it, or the change was applied before it began to hear. When a partition changes hands, the
successor announces again what was not committed.

A message about changes says up to which version it tells of them (`at`): whoever reads something after hearing of it
must not be given an older state of MongoDB.

Groups are named `resource|list|slot`, `resource|counters.name|slot` and `resource|rankings.name|slot`, with slots as
tags have them (see `neverstale.derived.redis_names.slot_of`); `*` stands for all of them. What a successor announces
of those may be less than its predecessor would have, since by then the contributions are replaced; but whoever hears
marks of a partition from another publisher begins to hear again.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from neverstale.catalog.watchers import DEFAULT_GROUP, LONGEST_NAME
from neverstale.role.damage import LATEST_MS, MOST_PARTITIONS
from neverstale.versions import Version, from_hex, to_hex

EVERY: Final = "*"
LONGEST_PUBLISHER: Final = 64


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
    coverage: str = ""
    """Digest of what the publisher covers (`neverstale.catalog.coverage`); empty: it tells none."""
    group: str = DEFAULT_GROUP
    """The watcher group whose topic the partitions are of."""


@dataclass(frozen=True, slots=True)
class Announcement:
    publisher: str
    number: int
    keys: Sequence[str] = ()
    """Entries that changed, whether Redis held them or not."""
    floors: Sequence[str] = ()
    """Collections of which everything may have changed."""
    groups: Sequence[str] = ()
    """Of lists, of which pages may have changed; of counters and rankings that have changed."""
    at: Version = 0
    """None of these changes has a higher version; 0: it does not say."""
    marks: AnnouncedMarks | None = None


class Announcer:
    """One publisher's messages, each with the next number. It applies the changes of one watcher group."""

    def __init__(self, publisher: str | None = None, group: str = DEFAULT_GROUP) -> None:
        self._publisher = publisher or secrets.token_hex(8)
        self._group = {"group": group} if group != DEFAULT_GROUP else {}
        self._number = 0

    def changes(self, keys: Sequence[bytes], floors: Collection[str], at: Version = 0) -> bytes:
        return self._encode({"keys": [key.decode() for key in keys], "floors": list(floors), "at": to_hex(at)})

    def groups(self, groups: Collection[str], at: Version = 0) -> bytes:
        return self._encode({"groups": list(groups), "at": to_hex(at)})

    def marks(
        self, identity: str, partitions: int, marks: Mapping[int, tuple[Version, int]], coverage: str = ""
    ) -> bytes:
        told = [(partition, to_hex(version), wall_ms) for partition, (version, wall_ms) in marks.items()]
        covers = {"covers": coverage} if coverage else {}
        return self._encode({"redis": identity, "partitions": partitions, "marks": told, **covers, **self._group})

    def _encode(self, said: Mapping[str, Any]) -> bytes:
        self._number += 1
        return orjson.dumps({"by": self._publisher, "n": self._number, **said})


def group_name(resource: str, declared: str = EVERY, slot: bytes = b"") -> str:
    """How a group is announced; without a slot all of what is declared, without that all of the resource's.

    `declared`: the name of a list, or `counters.` or `rankings.` and the name.
    """
    return f"{resource}|{declared}|{slot.decode() or EVERY}"


def decode(message: bytes) -> Announcement:
    """Read a message; `Unreadable` if anything in it is not as `Announcer` writes it."""
    try:
        said = orjson.loads(message)
        marks = _marks(said) if "marks" in said else None
        publisher, number = said["by"], _whole(said["n"], 2**63)
        if not isinstance(publisher, str) or len(publisher) > LONGEST_PUBLISHER:
            raise ValueError("a publisher has a short name")
        keys, floors, groups = (_texts(said.get(name)) for name in ("keys", "floors", "groups"))
        at = from_hex(said["at"]) if "at" in said else 0  # older consumers do not say
        return Announcement(publisher, number, keys, floors, groups, at, marks)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"malformed announcement: {type(error).__name__}: {error}") from None


def _marks(said: Mapping[str, Any]) -> AnnouncedMarks:
    identity, partitions = said["redis"], _whole(said["partitions"], MOST_PARTITIONS)
    if not isinstance(identity, str) or not partitions:
        raise ValueError("marks are of one Redis and some partitions")
    by_partition = {
        _whole(partition, partitions - 1): (from_hex(version), _whole(wall_ms, LATEST_MS))
        for partition, version, wall_ms in said["marks"]
    }
    coverage = said.get("covers", "")
    if not isinstance(coverage, str) or len(coverage) > LONGEST_PUBLISHER:
        raise ValueError("a coverage is a digest")
    group = said.get("group", DEFAULT_GROUP)
    if not isinstance(group, str) or len(group) > LONGEST_NAME:
        raise ValueError("a watcher group has a short name")
    return AnnouncedMarks(identity, partitions, by_partition, coverage, group)


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"expected a whole number of at most {most}")
    return value


def _texts(value: Any) -> Sequence[str]:
    if value is None:
        return ()
    if type(value) is not list:
        raise TypeError("expected a list of texts")
    "".join(value)  # refuses what is no text
    return value
