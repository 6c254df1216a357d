"""Events: the thin JSON records between the watcher and the consumers.

No document bodies: a record names a document and a version; who needs the content reads MongoDB. Every
record has a format number and a kind; a consumer that does not know either invalidates conservatively.

| kind     | meaning                                                            | record key            |
|----------|--------------------------------------------------------------------|-----------------------|
| `change` | a document changed at a version                                    | namespace + canonical |
| `mark`   | everything up to a version has been published before me            | none                  |
| `floor`  | every entry of a collection older than a version is stale          | none                  |
| `touch`  | a walk passed a document                                           | namespace + canonical |
| `rebuilt` | a walk has passed all documents; its touches are before me        | none                  |

`mark`, `floor` and `rebuilt` are written to every partition.

What every later format keeps: a record whose key is a namespace and a canonical key speaks of that document alone, so
that who cannot read the value still knows what it may concern.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import orjson

from neverstale.errors import DeadLetter
from neverstale.role.damage import LATEST_MS, MOST_PARTITIONS
from neverstale.role.traces import named_by
from neverstale.versions import Version, from_hex, to_hex

FORMAT = 1
LONGEST_SHOWN = 80
LONGEST_NAME = 64

Operation = Literal["insert", "update", "replace", "delete"]
OPERATIONS: frozenset[str] = frozenset(("insert", "update", "replace", "delete"))


@dataclass(frozen=True, slots=True)
class Change:
    """A document changed at `version`."""

    operation: Operation
    database: str
    collection: str
    key: str
    """Canonical document key, see `neverstale.keys.canonical`."""
    version: Version
    wall_ms: int
    """Wall time of the change, milliseconds since 1970, by the primary's clock."""
    fields: Sequence[str] | None
    """Paths that the change touched; `None` means all (insert, replace, delete)."""
    named: Mapping[str, str] | None = None
    """New facts (`neverstale.derived.groups.fact`) of paths that make groups of lists, as far as they are known."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Everything up to `version` has been published to this partition before this record.

    Every change acknowledged by a majority before `wall_ms` (the primary's clock) has a version <= `version`.
    """

    version: Version
    wall_ms: int
    partitions: int
    """How many partitions the topic has, so that a reader knows how many watermarks make a minimum."""
    term: int
    """The watcher's term of office; marks of an older term say nothing new."""
    topic: str | None = None
    """The topic's id, which another topic of the same name does not have; `None`: the broker tells none."""
    collections: tuple[str, ...] | None = None
    """Those whose changes the watcher publishes: of others it says nothing. `None`: it does not tell."""
    trace: str | None = None
    """The span of the batch that it ends, as W3C Trace Context spells it; `None`: that is not traced."""


@dataclass(frozen=True, slots=True)
class Floor:
    """Every entry of `collection` read before `version` is stale (drop, rename, history lost, ...)."""

    database: str
    collection: str
    version: Version
    reason: str
    lost: bool = True
    """Whether changes up to `version` may never be told: then what is derived from documents is void, too."""


@dataclass(frozen=True, slots=True)
class Touch:
    """A walk passed a document: whoever keeps something of it looks at it again."""

    database: str
    collection: str
    key: str
    version: Version
    """At which, or later, the walk saw the document. Not of a change."""
    entries: bool = False
    """Whether entries of the document that are older than `version` are stale, too (a resync)."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The touches of a walk for a generation of derived data are all before this record, in this partition."""

    resource: str
    generation: str
    partitions: int
    """How many partitions get this record."""


Event: TypeAlias = Change | Mark | Floor | Touch | Rebuilt


def record_key(database: str, collection: str, canonical_key: str) -> bytes:
    """The Kafka key of a document's records: one document lives on one partition."""
    return f"{database}.{collection}|{canonical_key}".encode()


def encode(event: Event) -> bytes:
    """The record's value."""
    match event:
        case Change():
            return orjson.dumps(
                {
                    "f": FORMAT,
                    "kind": "change",
                    "op": event.operation,
                    "db": event.database,
                    "coll": event.collection,
                    "key": event.key,
                    "ver": to_hex(event.version),
                    "wall": event.wall_ms,
                    "fields": event.fields,
                }
                | ({"groups": dict(event.named)} if event.named else {})
            )
        case Mark():
            return orjson.dumps(
                {
                    "f": FORMAT,
                    "kind": "mark",
                    "ver": to_hex(event.version),
                    "wall": event.wall_ms,
                    "partitions": event.partitions,
                    "term": event.term,
                }
                | ({"topic": event.topic} if event.topic is not None else {})
                | ({"colls": event.collections} if event.collections is not None else {})
                | ({"trace": event.trace} if event.trace is not None else {})
            )
        case Floor():
            return orjson.dumps(
                {
                    "f": FORMAT,
                    "kind": "floor",
                    "db": event.database,
                    "coll": event.collection,
                    "ver": to_hex(event.version),
                    "reason": event.reason,
                    "lost": event.lost,
                }
            )
        case Touch():
            return orjson.dumps(
                {
                    "f": FORMAT,
                    "kind": "touch",
                    "db": event.database,
                    "coll": event.collection,
                    "key": event.key,
                    "ver": to_hex(event.version),
                    "entries": event.entries,
                }
            )
        case Rebuilt():
            return orjson.dumps(
                {
                    "f": FORMAT,
                    "kind": "rebuilt",
                    "resource": event.resource,
                    "generation": event.generation,
                    "partitions": event.partitions,
                }
            )


def decode(value: bytes | None) -> Event:
    """Read a record's value; `DeadLetter` says why it cannot be read."""
    try:
        fields: dict[str, Any] = orjson.loads(value or b"")
        if (form := fields["f"]) != FORMAT:
            raise DeadLetter("format", f"record format {_shown(form)} is not {FORMAT}")
        kind = fields["kind"]
        if kind == "change":
            return _change(fields)
        if kind == "mark":
            return _mark(fields)
        if kind == "floor":
            version, reason, lost = from_hex(fields["ver"]), _text(fields["reason"]), _flag(fields["lost"])
            return Floor(_text(fields["db"]), _text(fields["coll"]), version, reason, lost)
        if kind == "touch":
            version, entries = from_hex(fields["ver"]), _flag(fields["entries"])
            return Touch(_text(fields["db"]), _text(fields["coll"]), _text(fields["key"]), version, entries)
        if kind == "rebuilt":
            partitions = _whole(fields["partitions"], 1, MOST_PARTITIONS)
            return Rebuilt(_text(fields["resource"]), _text(fields["generation"]), partitions)
    except orjson.JSONDecodeError as error:
        raise DeadLetter("undecodable", f"no JSON: {error}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DeadLetter("malformed", f"{type(error).__name__}: {_shown(error)}") from None
    raise DeadLetter("kind", f"unknown kind {_shown(kind)}")


def _mark(fields: dict[str, Any]) -> Mark:
    topic, collections = fields.get("topic"), fields.get("colls")
    if collections is not None and type(collections) is not list:
        raise TypeError("colls is a list of collections")
    return Mark(
        from_hex(fields["ver"]),
        _whole(fields["wall"], 0, LATEST_MS),
        _whole(fields["partitions"], 1, MOST_PARTITIONS),
        _whole(fields["term"], 0, 2**63),
        _name(topic) if topic is not None else None,
        tuple(map(_text, collections)) if collections is not None else None,
        named_by(fields.get("trace")),
    )


def _change(fields: dict[str, Any]) -> Change:
    operation = fields["op"]
    if operation not in OPERATIONS:
        raise DeadLetter("operation", f"unknown operation {_shown(operation)}")
    touched = fields["fields"]
    if touched is not None and not (isinstance(touched, list) and all(isinstance(path, str) for path in touched)):
        raise TypeError("fields is a list of paths, or null")
    named = fields.get("groups")
    if named is not None and not (isinstance(named, dict) and all(isinstance(fact, str) for fact in named.values())):
        raise TypeError("groups is facts by path")
    return Change(
        operation,
        _text(fields["db"]),
        _text(fields["coll"]),
        _text(fields["key"]),
        from_hex(fields["ver"]),
        _whole(fields["wall"], -LATEST_MS, LATEST_MS),
        touched,
        named,
    )


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _whole(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"expected a whole number from {least} to {most}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {type(value).__name__}")
    return value


def _name(value: Any) -> str:
    text = _text(value)
    if not 0 < len(text) <= LONGEST_NAME:
        raise ValueError(f"expected a name of at most {LONGEST_NAME} characters")
    return text


def _shown(value: object) -> str:
    """What somebody else wrote, short enough to be logged."""
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"
