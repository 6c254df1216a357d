"""What an event of the change stream means for the consumers: one table of operations.

| operation                             | becomes                                                           |
|---------------------------------------|-------------------------------------------------------------------|
| insert, update, replace, delete       | a `Change` of the document                                        |
| drop                                  | a `Floor` of the collection                                       |
| rename                                | a `Floor` of the source and one of the target, whichever is watched |
| dropDatabase                          | a `Floor` of every watched collection                             |
| invalidate                            | nothing: the stream ends here and is opened behind it             |
| anything else                         | nothing, counted                                                  |

An event of the heartbeat collection becomes nothing, whatever its operation.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Self, cast

import orjson

from neverstale.catalog import Catalog
from neverstale.derived.named_groups import named
from neverstale.kafka.events import Change, Floor, Operation
from neverstale.keys import canonical
from neverstale.mongodb.control import HEARTBEATS
from neverstale.streams.pipeline import RawEvent, value_field
from neverstale.versions import Version, of_resume_token


class EventMeaning(Enum):
    CHANGE = auto()
    FLOOR = auto()
    HEARTBEAT = auto()
    IGNORED = auto()


OPERATIONS: Final = {
    "insert": EventMeaning.CHANGE,
    "update": EventMeaning.CHANGE,
    "replace": EventMeaning.CHANGE,
    "delete": EventMeaning.CHANGE,
    "drop": EventMeaning.FLOOR,
    "rename": EventMeaning.FLOOR,
    "dropDatabase": EventMeaning.FLOOR,
}

LONGEST_KEY: Final = 16 * 1024
"""Canonical keys above this are not written to Kafka, where a record has a limit; see `Watched.floors`."""

LONGEST_FIELDS: Final = 32 * 1024
"""Changed paths that take more bytes than this, as JSON, are published as "all"."""


def version_of(event: RawEvent) -> Version:
    """The event's `clusterTime`, which its resume token begins with."""
    return of_resume_token(event["_id"]["_data"])


def wall_ms_of(event: RawEvent) -> int:
    """The event's wall time; where the server gives none, its cluster time in whole seconds."""
    wall = event["wall"]
    return (version_of(event) >> 32) * 1000 if wall is None else int(wall)


def meaning_of(event: RawEvent) -> EventMeaning:
    if event.get("coll") == HEARTBEATS:
        return EventMeaning.HEARTBEAT
    return OPERATIONS.get(event["op"], EventMeaning.IGNORED)


def _fields(paths: list[str] | None) -> list[str] | None:
    return None if paths is None or len(orjson.dumps(paths)) > LONGEST_FIELDS else paths


@dataclass(frozen=True, slots=True)
class Watched:
    """The collections whose changes are published."""

    database: str
    collections: tuple[str, ...]
    grouping: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Collection -> paths that make groups of lists; their new values are named in changes."""
    _value_fields: dict[str, list[tuple[str, str]]] = field(init=False, default_factory=dict)
    """Collection -> each of its paths with the field of an event that holds its new value."""

    def __post_init__(self) -> None:
        fields = {path: value_field(number) for number, path in enumerate(self.paths)}
        self._value_fields.update({name: [(path, fields[path]) for path in by] for name, by in self.grouping.items()})

    @classmethod
    def of(cls, catalog: Catalog) -> Self:
        """What a catalog asks to watch."""
        paths = {
            name: tuple(dict.fromkeys(path for one in served for path in one.derived.tagged_paths))
            for name, served in ((name, catalog.of_collection(name)) for name in catalog.collections)
        }
        return cls(catalog.database, catalog.collections, {name: by for name, by in paths.items() if by})

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths whose values are asked for, in the order of their numbers (`pipeline.value_field`)."""
        return tuple(dict.fromkeys(path for by in self.grouping.values() for path in by))

    def named(self, event: RawEvent) -> dict[str, str]:
        """What the event of a change tells of the collection's groups."""
        fields = self._value_fields.get(event["coll"])
        if not fields or event["op"] == "delete":
            return {}
        values: Any = event
        by = {path: values.get(name) for path, name in fields}
        return named(tuple(by), event["fields"], by)

    def change(self, event: RawEvent) -> Change:
        """The change of an insert, update, replace or delete event."""
        return Change(
            operation=cast("Operation", event["op"]),
            database=self.database,
            collection=event["coll"],
            key=canonical(event["key"]),
            version=version_of(event),
            wall_ms=wall_ms_of(event),
            fields=_fields(event["fields"]),
            named=self.named(event) or None,
        )

    def floors(self, event: RawEvent) -> list[Floor]:
        """The floors of a drop, rename or dropDatabase event, and of a change that no record can tell."""
        if event["op"] == "dropDatabase":
            return self.every_floor(version_of(event), "dropDatabase")
        reason = event["op"] if event["op"] in ("drop", "rename") else "a record is too large"
        return self.some_floors({event["coll"], event.get("to", "")}, version_of(event), reason)

    def every_floor(self, version: Version, reason: str) -> list[Floor]:
        return self.some_floors(self.collections, version, reason)

    def some_floors(self, concerned: Collection[str], version: Version, reason: str) -> list[Floor]:
        """Of the collections among these that are watched."""
        return [Floor(self.database, name, version, reason) for name in self.collections if name in concerned]
