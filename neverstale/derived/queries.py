"""Queries: what MongoDB is asked for what is derived, from a declaration and the values of its group. What all kinds
have in common is here, the rest in their rooms: `lists.queries`, `counters.queries`, `rankings.queries`.

Used where Redis cannot answer, for pages, to explain queries, and to compare what Redis holds with MongoDB. All
answer what the contributions count (see `neverstale.derived.groups` and `facts`): missing is `null`, each distinct
element of an array is a group, only numbers are summed, only finite numbers and dates have a rank.

Nothing here talks to a server. Commands lack `readConcern`, which the caller adds.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

from neverstale.bson.values import under

Filter: TypeAlias = dict[str, Any]
Command: TypeAlias = dict[str, Any]
Stages: TypeAlias = list[dict[str, Any]]
Values: TypeAlias = Sequence[Any]
"""One for each field of `by`, in order, as BSON types."""

BYTES: Final = {"locale": "simple"}
"""Strings compare byte by byte, whatever the collection's collation is: so do groups in Redis."""


def aggregate(collection: str, stages: Stages, rows: int) -> Command:
    """The command that runs a pipeline and returns at most so many rows in one reply."""
    return {"aggregate": collection, "pipeline": stages, "cursor": {"batchSize": rows + 1}, "collation": BYTES}


def elements(path: str) -> Any:
    """Expression: everything that a path finds in a document, arrays taken apart; what `groups.fact` counts."""
    return _found(path, "$", 0, apart=True)


def values_at(path: str) -> Any:
    """Expression: everything that a path finds; what `groups.at_path` answers."""
    return _found(path, "$", 0, apart=False)


def only(path: str) -> Any:
    """Expression: the one value at a path; an array of several is none."""
    if "." not in path:
        return f"${path}"
    return {"$let": {"vars": {"v": values_at(path)}, "in": _one_of("$$v")}}


def _one_of(array: str) -> Any:
    return {"$cond": [{"$eq": [{"$size": array}, 1]}, {"$first": array}, None]}


def _found(path: str, inside: str, depth: int, *, apart: bool) -> Any:
    """`inside`: the beginning of a reference to the object that the path is looked up in."""
    name, _, rest = path.partition(".")
    value = f"{inside}{name}"
    alone = [{"$ifNull": [value, None]}]
    if not rest:
        return {"$cond": [{"$isArray": value}, value, alone]} if apart else alone
    objects, one = f"o{depth}", f"e{depth}"
    inner = _found(rest, f"$${one}.", depth + 1, apart=apart)
    kept = {"$filter": {"input": value, "as": one, "cond": {"$eq": [{"$type": f"$${one}"}, "object"]}}}
    each = {"$map": {"input": f"$${objects}", "as": one, "in": inner}}
    joined = {"$reduce": {"input": each, "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this"]}}}
    many = {"$let": {"vars": {objects: kept}, "in": {"$cond": [{"$eq": [f"$${objects}", []]}, [None], joined]}}}
    single = {"$let": {"vars": {one: value}, "in": inner}}
    is_object = {"$eq": [{"$type": value}, "object"]}
    return {"$cond": [{"$isArray": value}, many, {"$cond": [is_object, single, [None]]}]}


def or_null(array: Any) -> Any:
    """Expression: an array with `null` for what is undefined: they are one group."""
    return {"$map": {"input": array, "as": "one", "in": {"$ifNull": ["$$one", None]}}}


def equal(paths: Sequence[str], values: Values) -> Filter:
    """The documents that have these values at these paths."""
    return {path: is_value(value) for path, value in zip(paths, values, strict=True)}


def projection(paths: Collection[str]) -> dict[str, int]:
    """Of a `find` that reads these: no path inside another, which MongoDB would refuse."""
    return {path: 1 for path in sorted(paths) if not any(path.startswith(other + ".") for other in paths)}


def is_value(value: Any) -> Mapping[str, Any]:
    """Condition: a field is this, or an array with it.

    `$eq` takes a value as it is, even one that looks like an operator. `null` matches what is missing, too. A whole
    array would be found as well as one with such an array in it; a group of it has only the latter.
    """
    return {"$elemMatch": under("$eq", value)} if isinstance(value, list) else under("$eq", value)
