"""Query parameters of lists, counters and rankings: the values that name a group.

    origin=JFK            of the type that the catalog's `fields` declare, else a string
    day:int=3             of a type that is named, as the catalog spells it
    origin:null           the group of those where it is missing or null
    sched_dep:gte=…       of a list: the range of its first sorted field; `day:int:gte=3` names the type

A field that is called like a parameter of ours (`limit`, ...) must be written with its type. Everything else that a
query says is refused: a misspelt filter must not answer with more than was asked for.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from neverstale.api.web.paths import decoded, parameters_of, shown, text_of
from neverstale.api.web.problems import bad_parameter
from neverstale.api.web.typed_values import NULL, TYPES, WrongValue, read
from neverstale.bson import texts
from neverstale.catalog import Resource
from neverstale.derived.groups import group
from neverstale.keys import KeyType, parse

VALUE: Final = "value"
"""What the value of a look-up is called in problems."""
_AS_KEYS: Final[Mapping[str, KeyType]] = {"int": "int", "long": "int", "objectid": "objectid", "uuid": "uuid"}
"""Types whose values have one spelling, that of keys."""

WAYS: Final = ("gte", "gt", "lte", "lt")
"""How a range is limited: from, beyond, up to, below."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query string says."""

    values: Mapping[str, Any]
    """Field -> value, as BSON types."""
    others: Mapping[str, bytes]
    """Parameters of ours, undecoded."""
    span: Mapping[str, Any]
    """The range of the field that may have one: `gte`, `gt`, `lte`, `lt` -> value."""

    def text(self, name: str) -> str | None:
        """One of our own parameters, if it is there."""
        value = self.others.get(name)
        return None if value is None else text_of(value, name)

    def group(self, by: Sequence[str]) -> str:
        """The name of the group; all fields must be there."""
        return group([texts.text_of(self.values[path]) for path in by])


def asked(
    query: bytes, resource: Resource, by: Sequence[str], others: Collection[str], *, whole: bool, ranged: str = ""
) -> Asked:
    """Reads a query string; a `Problem` names the first parameter that is wrong. `whole`: no field may be missing.
    `ranged`: a field that may have a range."""
    values: dict[str, Any] = {}
    said: dict[str, bytes] = {}
    span: dict[str, Any] = {}
    for name, value in parameters_of(query):
        if name in others:
            if name in said:
                raise bad_parameter(name, "is there twice")
            said[name] = value
            continue
        if ranged and (limit := _limit(name, ranged, resource)) is not None:
            kind, way = limit
            if way in span:
                raise bad_parameter(shown(name), "is there twice")
            span[way] = _value(name, kind, text_of(value, name))
            continue
        path, kind = _field(name, by, resource, ranged)
        if path in values:
            raise bad_parameter(path, "is there twice")
        values[path] = _value(path, kind, text_of(value, path))
    missing = [path for path in by if path not in values]
    if whole and missing:
        raise bad_parameter(missing[0], f"is missing, e.g. {missing[0]}=…, or {missing[0]}:null")
    return Asked({path: values[path] for path in by if path in values}, said, span)


def whole_number(asked: Asked, name: str, default: int, lowest: int, highest: int) -> int:
    """One of our own parameters, a count."""
    text = asked.text(name)
    if text is None:
        return default
    if not text.isdigit() or not text.isascii() or len(text) > 9 or not lowest <= int(text) <= highest:
        raise bad_parameter(name, f"expected a whole number from {lowest} to {highest}")
    return int(text)


def kind_of(path: str, resource: Resource) -> str:
    """The declared type of a field, or `string`."""
    if path == "_id":
        return resource.key_type
    declared = (resource.fields or {}).get(path, "string")
    return declared if declared in TYPES else "string"


def looked_up(segment: str, path: str, resource: Resource) -> Any:
    """The value of a look-up in an undecoded path segment, spelled as keys are; a `Problem` if there is none."""
    text, kind = decoded(segment.encode("latin-1"), VALUE, "the value"), kind_of(path, resource)
    try:
        if kind in _AS_KEYS and text:
            return parse(text, _AS_KEYS[kind])
        if text:
            return read(kind, text)
    except ValueError as wrong:
        raise bad_parameter(VALUE, str(wrong)) from None
    raise bad_parameter(VALUE, "is empty")


def _limit(name: str, path: str, resource: Resource) -> tuple[str, str] | None:
    """The type and the way of a limit (`path:gte`, `path:int:gte`), if the name is one."""
    before, _, way = name.rpartition(":")
    if way not in WAYS:
        return None
    if before == path:
        return kind_of(path, resource), way
    at, _, kind = before.rpartition(":")
    if at != path:
        detail = f"only {path}, the first sorted field, can have a range: {path}:gte=…, {path}:lt=…"
        raise bad_parameter(shown(name), detail)
    if kind not in TYPES:
        raise bad_parameter(shown(name), f"{shown(kind)} is not a type; use {', '.join(TYPES)}")
    return kind, way


def _field(name: str, by: Sequence[str], resource: Resource, ranged: str) -> tuple[str, str]:
    if name in by:
        return name, kind_of(name, resource)
    path, colon, kind = name.rpartition(":")
    if not colon or path not in by:
        known = ", ".join(by) if by else "none"
        beside = f"; a range of {ranged}: {', '.join(f'{ranged}:{way}' for way in WAYS)}" if ranged else ""
        raise bad_parameter(shown(name), f"there is no such parameter; fields: {known}{beside}")
    if kind != NULL and kind not in TYPES:
        raise bad_parameter(shown(name), f"{shown(kind)} is not a type; use {', '.join(TYPES)} or {NULL}")
    return path, kind


def _value(path: str, kind: str, text: str) -> Any:
    if kind == NULL:
        if text:
            raise bad_parameter(path, f"{NULL} takes no value")
        return None
    try:
        return read(kind, text)
    except WrongValue as wrong:
        raise bad_parameter(path, str(wrong)) from None
