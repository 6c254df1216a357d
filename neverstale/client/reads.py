"""What can be asked for: a path, and what is made of its answer. No network is in it.

Values of fields are spelled by their Python type: a `str` is read by the API as the type that the catalog declares
for the field, everything else names its type (`day:int=3`), and `None` is the group where the field is missing or
null.
"""

import base64
import datetime
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import orjson
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from neverstale.client.failures import ServerFault, Unintelligible

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Json: TypeAlias = dict[str, Any]
Key: TypeAlias = str | int | ObjectId | uuid.UUID
By: TypeAlias = Mapping[str, Any]

PREFIX: Final = "/v1/"
MOST_KEYS: Final = 200
"""In one request."""
MOST_LETTERS: Final = 6_000
"""Of all keys of one request: a request line, with what proxies add, has to stay below 8 KiB."""
_OURS: Final = frozenset(("cursor", "group", "limit", "around", "fields", "expand", "prev", "total"))
"""Parameters of the API: a field that is called so is written with its type."""


@dataclass(frozen=True, slots=True)
class Readable(Generic[T_co]):
    """One thing that can be read."""

    path: str
    """With its query."""
    made: Callable[[Any], T_co]
    """What the JSON of an answer means. Raises `LookupError`, `TypeError` or `ValueError` for what it cannot be, and
    `ServerFault` where MongoDB refuses one of several documents."""
    may_be_absent: bool = False
    """Whether there may be no such document."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of a list."""

    items: Sequence[Json]
    next: str | None
    """The cursor of the next page; `None`: this is the last."""


@dataclass(frozen=True, slots=True)
class GroupCount:
    """Count and sums of one group, or of all that an answer shows together."""

    count: int
    sums: Mapping[str, float | int | str | None]
    averages: Mapping[str, float | str | None]


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """Groups of a counter."""

    groups: Sequence[tuple[Mapping[str, Any], GroupCount]]
    """Values of the fields, and what they count; the largest first."""
    total: GroupCount
    more: bool
    """There are more groups than are shown."""


@dataclass(frozen=True, slots=True)
class RankedKey:
    """A document's place in a ranking."""

    key: Any
    score: float | int | str | None
    rank: int
    around: Sequence["RankedKey"] = ()
    """Its neighbours, if they were asked for."""


def document(resource: str, key: Key) -> Readable[Json]:
    return Readable(f"{PREFIX}{segment(resource)}/{segment(text_of_key(key))}", _object, may_be_absent=True)


def documents(resource: str, keys: Sequence[Key]) -> Readable[dict[Key, Json | None]]:
    """At most `MOST_KEYS`."""
    listed = ",".join(segment(text_of_key(key)) for key in keys)
    return Readable(f"{PREFIX}{segment(resource)}?keys={listed}", lambda body: _values(body, keys))


def by_field(resource: str, field: str, value: Any) -> Readable[Json]:
    """A look-up."""
    kind, text = spelled(value)
    if kind == "null" or not text:
        raise ValueError("no document is found by nothing")
    return Readable(f"{PREFIX}{segment(resource)}/-/by/{segment(field)}/{segment(text)}", _object, may_be_absent=True)


def page(resource: str, name: str, by: By, cursor: str | None = None) -> Readable[ListPage]:
    more = {} if cursor is None else {"cursor": cursor}
    return Readable(_derived(resource, "lists", name, by, more), _page)


def count(resource: str, name: str, by: By) -> Readable[GroupCount]:
    """Of one group: with a value for every field that the counter is declared by."""
    return Readable(_derived(resource, "counters", name, by, {}), _count)


def counts(
    resource: str, name: str, by: By, group: Sequence[str] | None = None, limit: int | None = None
) -> Readable[GroupCounts]:
    """Of the groups that the fields without a value make, or those in `group`."""
    more = {} if limit is None else {"limit": str(limit)}
    path = _derived(resource, "counters", name, by, more)
    if group is not None:
        path += ("&" if "?" in path else "?") + "group=" + ",".join(map(segment, group))
    return Readable(path, _counts)


def ranking(resource: str, name: str, by: By, limit: int | None = None) -> Readable[list[RankedKey]]:
    more = {} if limit is None else {"limit": str(limit)}
    return Readable(_derived(resource, "rankings", name, by, more), lambda body: list(map(_ranked, body["items"])))


def rank(resource: str, name: str, key: Key, by: By, around: int | None = None) -> Readable[RankedKey]:
    more = {} if around is None else {"around": str(around)}
    path = _derived(resource, "rankings", name, by, more, segment(text_of_key(key)))
    return Readable(path, _ranked, may_be_absent=True)


def portions(keys: Sequence[Key]) -> Iterator[list[Key]]:
    """As many keys at a time as one request may have."""
    portion: list[Key] = []
    size = 0
    for key in keys:
        length = len(segment(text_of_key(key))) + 1
        if portion and (len(portion) == MOST_KEYS or size + length > MOST_LETTERS):
            yield portion
            portion, size = [], 0
        portion.append(key)
        size += length
    if portion:
        yield portion


def made(what: Readable[T], body: bytes) -> T:
    """What an answer means; raises `Unintelligible` for one of another form."""
    try:
        return what.made(orjson.loads(body))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Unintelligible(f"an answer of another form: {type(error).__name__}: {error}") from error


def segment(text: str) -> str:
    """One segment of a path. Proxies resolve `.` and `..`, so these are escaped as well."""
    return quote(text, safe="") if text not in (".", "..") else text.replace(".", "%2E")


def text_of_key(key: Key) -> str:
    return str(key)


def spelled(value: Any) -> tuple[str, str]:
    """The type that a value has to be called by, or nothing where the catalog says it, and its text."""
    match value:
        case None:
            return "null", ""
        case bool():
            return "bool", "true" if value else "false"
        case str():
            return "", value
        case int():
            return "int", str(int(value))
        case float():
            return "double", repr(float(value))
        case Decimal() | Decimal128():
            return "decimal", str(value)
        case datetime.datetime():
            aware = value if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
            return "date", aware.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case ObjectId():
            return "objectid", str(value)
        case uuid.UUID():
            return "uuid", str(value)
        case bytes():
            return "binary", base64.b64encode(value).decode()
    raise TypeError(f"a {type(value).__name__} cannot be asked for")


def _derived(resource: str, kind: str, name: str, by: By, more: Mapping[str, str], last: str = "") -> str:
    path = f"{PREFIX}{segment(resource)}/-/{kind}/{segment(name)}" + (f"/{last}" if last else "")
    query = [_parameter(field, value) for field, value in by.items()]
    query += [f"{name}={segment(value)}" for name, value in more.items()]
    return path + ("?" + "&".join(query) if query else "")


def _parameter(field: str, value: Any) -> str:
    kind, text = spelled(value)
    if not kind and field in _OURS:
        kind = "string"
    name = segment(field) + (f":{kind}" if kind else "")
    return name if kind == "null" else f"{name}={segment(text)}"


def _object(body: Any) -> Json:
    if not isinstance(body, dict):
        raise TypeError("a document is an object")
    return body


def _values(body: Any, keys: Sequence[Key]) -> dict[Key, Json | None]:
    found: dict[Key, Json | None] = {}
    for key, item in zip(keys, body["items"], strict=True):
        if (problem := item.get("problem")) is not None:
            raise ServerFault(int(problem["status"]), problem)
        found[key] = _object_or_none(item["value"])
    return found


def _object_or_none(value: Any) -> Json | None:
    return None if value is None else _object(value)


def _page(body: Any) -> ListPage:
    following = body["next"]
    if not (following is None or isinstance(following, str)):
        raise TypeError("a cursor is a text")
    return ListPage([_object(item) for item in body["items"]], following)


def _count(body: Any) -> GroupCount:
    return GroupCount(int(body["count"]), dict(body["sums"]), dict(body.get("averages", {})))


def _counts(body: Any) -> GroupCounts:
    groups = [(dict(one["by"]), _count(one)) for one in body["groups"]]
    return GroupCounts(groups, _count(body["total"]), bool(body["more"]))


def _ranked(body: Any) -> RankedKey:
    around = tuple(_ranked(one) for one in body.get("around", ()))
    return RankedKey(body["key"], body["score"], int(body["rank"]), around)
