"""What the server does for us: which events of the database it sends, and how little of each.

The projection leaves no document body in an event, and no field value but of fields that make groups of lists, so an
update of 10 MB to 10 MB is a small event (a change event above 16 MB ends the stream for good, see "Change Streams
with Large Documents" in MongoDB's manual). It is flat, because a flat event is decoded three times faster than a
nested one.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, TypedDict

from neverstale.derived.groups import MAX_TEXTS
from neverstale.mongodb.control import HEARTBEATS

Token: TypeAlias = dict[str, Any]
"""A resume token, as the server gave it."""


class RawEvent(TypedDict):
    """One event as the pipeline below sends it."""

    _id: Token
    op: str
    coll: str
    """Missing in events of the whole database (dropDatabase, invalidate)."""
    to: str
    """Target of a rename; else missing."""
    key: Any
    """`_id` of the document, of any BSON type; missing in events that concern no single document."""
    wall: int | None
    """Milliseconds since 1970 by the primary's clock; `None` before MongoDB 6.0, except in heartbeats."""
    fields: list[str] | None
    """Paths that an update set, removed or truncated; `None` for every other event."""


_UPDATED = {"$map": {"input": {"$objectToArray": "$updateDescription.updatedFields"}, "in": "$$this.k"}}
_REMOVED = "$updateDescription.removedFields"
# A part of an array was cut off: by the trailing 0, one of its elements changed, and not the whole.
_TRUNCATED = {
    "$map": {
        "input": {"$ifNull": ["$updateDescription.truncatedArrays.field", []]},
        "in": {"$concat": ["$$this", ".0"]},
    }
}

# Change events carry `wallTime` from MongoDB 6.0; before, only a heartbeat's own time tells the primary's clock.
_HEARTBEAT_AT = {"$cond": [{"$eq": ["$ns.coll", HEARTBEATS]}, "$updateDescription.updatedFields.at", None]}

_PROJECTION: Final[dict[str, Any]] = {
    "op": "$operationType",
    "coll": "$ns.coll",
    "to": "$to.coll",
    "key": "$documentKey._id",
    "wall": {"$toLong": {"$ifNull": ["$wallTime", _HEARTBEAT_AT]}},
    # An absent updateDescription makes the first array null, and with it the whole concatenation.
    "fields": {"$concatArrays": [_UPDATED, _REMOVED, _TRUNCATED]},
}


LONGEST_VALUE: Final = 16 * 1024
"""Bytes of a value that is sent. A longer one names no group: it is replaced by an array that is too long to."""
_TOO_LONG: Final = {"$range": [0, MAX_TEXTS + 1]}


def value_field(number: int) -> str:
    """The field of an event that holds the new value of the path with this number."""
    return f"v{number}"


def _value(path: str) -> dict[str, Any]:
    """The new value of a path, if the event has it; null and nothing are one group."""
    updated = "$updateDescription.updatedFields"
    found = [f"{updated}.{path}", f"$fullDocument.{path}"]
    if "." in path:
        # Set by itself it is one field, whose name has dots in it.
        found.insert(0, {"$getField": {"field": {"$literal": path}, "input": updated}})  # type: ignore[arg-type]
    short = {"$lte": [{"$bsonSize": {"v": "$$v"}}, LONGEST_VALUE]}
    return {"$let": {"vars": {"v": {"$ifNull": found}}, "in": {"$cond": [short, "$$v", _TOO_LONG]}}}


def pipeline(collections: Sequence[str], paths: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The stages after `$changeStream`: events of `collections`, of our heartbeats, and of the database.

    `paths` make groups of lists; their new values are all that is taken of a document.
    """
    return [
        {
            "$match": {
                "$or": [
                    {"ns.coll": {"$in": [*collections, HEARTBEATS]}},
                    {"to.coll": {"$in": list(collections)}},
                    {"operationType": {"$in": ["dropDatabase", "invalidate"]}},
                ]
            }
        },
        {"$project": _PROJECTION | {value_field(number): _value(path) for number, path in enumerate(paths)}},
    ]
