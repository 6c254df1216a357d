"""What a body asks for:

    {"keys": ["2013-02-08:UA650:LGA", ...], "expand": ["carrier"], "fields": ["status", "carrier.name"]}

and, of several resources at once, each of these by the resource's name. Keys are typed by JSON: a string, a number,
or as MongoDB's Extended JSON spells them: {"$oid": "..."}, {"$uuid": "..."}, {"$numberLong": "42"}.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from neverstale.api.linked.parameters import EXPAND, FIELDS
from neverstale.api.linked.view import View, Views
from neverstale.api.web.paths import shown
from neverstale.api.web.problems import Problem, bad_parameter
from neverstale.catalog import Resource
from neverstale.keys import KeyType, KeyValue, of_json, parse

KEYS: Final = "keys"
MOST_KEYS: Final = 1000
"""Of all resources together."""
_MEMBERS: Final = (KEYS, EXPAND, FIELDS)
_EXTENDED: Final[Mapping[KeyType, frozenset[str]]] = {
    "string": frozenset(),
    "int": frozenset(("$numberInt", "$numberLong")),
    "objectid": frozenset(("$oid",)),
    "uuid": frozenset(("$uuid",)),
}
"""How Extended JSON spells keys of these types (MongoDB Extended JSON v2)."""


@dataclass(frozen=True, slots=True)
class WantedDocuments:
    """Documents of one resource."""

    view: View
    keys: Sequence[KeyValue]


def wanted_of(body: Any, views: Views, within: str = "") -> WantedDocuments:
    """What a body asks of one resource; a `Problem` names the member that is wrong. `within`: how those are named."""
    members = _members(body, _MEMBERS, within)
    if KEYS not in members:
        raise bad_parameter(within + KEYS, 'is missing, e.g. {"keys": ["a", "b"]}')
    keys = _list(members[KEYS], within + KEYS, "keys")
    if len(keys) > MOST_KEYS:
        raise _too_many(within + KEYS)
    texts = {name: _texts(members[name], within + name) for name in (EXPAND, FIELDS) if name in members}
    try:
        view = views.of(texts.get(EXPAND, ()), texts.get(FIELDS))
    except Problem as problem:
        if not within:
            raise
        raise bad_parameter(within + problem.members["parameter"], problem.members["detail"]) from None
    return WantedDocuments(view, [_key(value, views.resource, f"{within}{KEYS}", i) for i, value in enumerate(keys)])


def wanted_of_several(body: Any, views: Mapping[str, Views]) -> dict[str, WantedDocuments]:
    """What a body asks of several resources, by name."""
    members = _members(body, tuple(views), "")
    if not members:
        raise bad_parameter("body", 'names no resource, e.g. {"flights": {"keys": ["a"]}}')
    wanted = {name: wanted_of(each, views[name], f"{name}.") for name, each in members.items()}
    if sum(len(each.keys) for each in wanted.values()) > MOST_KEYS:
        raise _too_many(KEYS)
    return wanted


def _members(body: Any, known: Sequence[str], within: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise bad_parameter(within.rstrip(".") or "body", f"expected an object with any of: {', '.join(known)}")
    for name in body:
        if name not in known:
            raise bad_parameter(within + shown(name), f"there is no such member; known: {', '.join(known)}")
    return body


def _list(value: Any, parameter: str, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise bad_parameter(parameter, f"expected an array of at least one of the {what}")
    return value


def _texts(value: Any, parameter: str) -> list[str]:
    texts = _list(value, parameter, "names")
    if not all(isinstance(text, str) for text in texts):
        raise bad_parameter(parameter, "expected an array of names, which are strings")
    return texts


def _key(value: Any, resource: Resource, parameter: str, place: int) -> KeyValue:
    try:
        return _typed(value, resource.key_type)
    except ValueError as error:
        raise bad_parameter(parameter, f"number {place} (from 0): {error}") from None


def _typed(value: Any, key_type: KeyType) -> KeyValue:
    if not isinstance(value, dict):
        return of_json(value, key_type)
    ((name, text),) = value.items() if len(value) == 1 else (("", None),)
    if name not in _EXTENDED[key_type] or not isinstance(text, str):
        accepted = "".join(f' or {{"{name}": "…"}}' for name in sorted(_EXTENDED[key_type]))
        plain = "a number" if key_type == "int" else "a string"
        raise ValueError(f"expected {plain}{accepted}")
    return parse(text, key_type)


def _too_many(parameter: str) -> Problem:
    return bad_parameter(parameter, f"more than {MOST_KEYS} keys")
