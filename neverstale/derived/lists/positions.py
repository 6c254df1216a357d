"""Positions in a sorted list: the filter for what comes behind a sort key, whatever the types of the values.

`{field: {$gt: x}}` only finds values of x's own type, but a sort goes on with values of later types
(https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/). So a position becomes branches, each of
them ranges of the list's index:

    sort [a, _id], behind (x, k):   a > x   or   a of a later type   or   a = x and _id > k

Ranges find too much: an array is sorted by its least element (descending: its greatest), but found by any; some types
cannot be asked for by value. So each branch also says, as an expression, how the sort key itself compares with the
position. The server computes it for the few documents that the ranges find.

Missing fields sort like `null`, empty arrays like undefined, just before it. Values are put into the filter as they
lie in BSON (`neverstale.bson.values.under`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from bson.decimal128 import Decimal128

from neverstale.bson import codes
from neverstale.bson.values import RawValue, element, under

Condition: TypeAlias = Mapping[str, Any]
Branch: TypeAlias = list[Condition]
"""All of these hold."""

_BRACKETS: Final[tuple[tuple[str, ...], ...]] = (
    ("minKey",),
    (),  # undefined, empty arrays, null, missing: see `_nullish`
    ("int", "long", "double", "decimal"),
    ("string", "symbol"),
    ("object",),
    (),  # arrays in arrays: see `_arrays`
    ("binData",),
    ("objectId",),
    ("bool",),
    ("date",),
    ("timestamp",),
    ("regex",),
    ("dbPointer",),
    ("javascript",),
    ("javascriptWithScope",),
    ("maxKey",),
)
"""Types in their order; values of one bracket are compared with one another."""
_NULL, _NUMBER, _ARRAY = 1, 2, 5
_PLACES: Final = {
    codes.MINKEY: 0,
    codes.UNDEFINED: _NULL,
    codes.NULL: _NULL,
    codes.DOUBLE: _NUMBER,
    codes.INT: _NUMBER,
    codes.LONG: _NUMBER,
    codes.DECIMAL: _NUMBER,
    codes.STRING: 3,
    codes.SYMBOL: 3,
    codes.OBJECT: 4,
    codes.ARRAY: _ARRAY,
    codes.BINARY: 6,
    codes.OID: 7,
    codes.BOOL: 8,
    codes.DATE: 9,
    codes.TIMESTAMP: 10,
    codes.REGEX: 11,
    codes.DBPOINTER: 12,
    codes.CODE: 13,
    codes.SCOPED: 14,
    codes.MAXKEY: 15,
}
_BY_VALUE: Final = frozenset((2, 3, 4, 6, 7, 8, 9, 10))
"""Brackets that `$gt` and `$eq` take a value of and compare as a sort does; of others all of the bracket is read."""
_NULLISH: Final[Condition] = {"$in": [None, []]}
_MISSING: Final[Condition] = {"$exists": False}
"""Where a path with dots ends in an array, nothing is null to a query."""
_UNDEFINED: Final = RawValue(codes.UNDEFINED, b"")


def after(order: Sequence[tuple[str, int]], position: Sequence[Any], *, inclusive: bool = False) -> Iterator[Branch]:
    """The branches of what sorts behind a position; `order` holds paths and ways, 1 or -1. `inclusive`: and of what
    has this very position."""
    equal: list[tuple[Branch, list[Condition]]] = [([], [])]
    for (path, way), value in zip(order, position, strict=True):
        key, here = sort_key(path, way), under("$literal", value)
        behind = {"$gt" if way > 0 else "$lt": [key, here]}
        for ranges, exactly in equal:
            for condition in _behind(path, value, way):
                yield [*ranges, condition, {"$expr": {"$and": [*exactly, behind]}}]
        equal = [
            ([*ranges, condition], [*exactly, {"$eq": [key, here]}])
            for ranges, exactly in equal
            for condition in _at(path, value)
        ]
    if inclusive:
        for ranges, exactly in equal:
            yield [*ranges, {"$expr": {"$and": exactly}}]


def _behind(path: str, value: Any, way: int) -> Iterator[Condition]:
    """Ranges that hold all whose sort key is strictly behind a value's."""
    place = _place(value)
    if path == "_id":
        # It is there, and no array, so that the server makes one range of the expression.
        yield {}
        return
    if _is_nan(value):
        if way > 0:
            yield {path: {"$gte": -math.inf}}
    elif place in _BY_VALUE:
        yield {path: under("$gt" if way > 0 else "$lt", value)}
    elif place != _NULL:
        yield from _whole(path, (place,))
    elif way > 0 and _is_undefined(value):
        yield from _nullish(path)
    elif way < 0 and not _is_undefined(value):
        yield {path: {"$type": ["undefined"]}}
        yield {path: {"$eq": []}}
    yield from _whole(path, range(place + 1, len(_BRACKETS)) if way > 0 else range(place))
    if place == _NUMBER and way < 0 and not _is_nan(value):
        yield {path: {"$eq": math.nan}}  # the least number, and less than none


def _at(path: str, value: Any) -> Iterator[Condition]:
    """Ranges that hold all whose sort key is a value."""
    place = _place(value)
    if place in _BY_VALUE:
        yield {path: under("$eq", value)}
    else:
        yield from _whole(path, (place,))


def _whole(path: str, places: Sequence[int]) -> Iterator[Condition]:
    """All of some brackets."""
    if types := [kind for place in places for kind in _BRACKETS[place]]:
        yield {path: {"$type": types}}
    if _NULL in places:
        yield from _nullish(path)
    if _ARRAY in places:
        yield _arrays(path)


def _nullish(path: str) -> Iterator[Condition]:
    yield {path: _NULLISH}
    if "." in path:
        yield {path: _MISSING}


def _arrays(path: str) -> Condition:
    """All arrays, and all objects. `$type` and `$gte: []` would read the whole index for them; of an expression the
    server makes a range where no document has an array there."""
    value = f"${path}"
    return {"$expr": {"$and": [{"$gte": [value, {"$literal": {}}]}, {"$lt": [value, {"$literal": b""}]}]}}


def _place(value: Any) -> int:
    return _PLACES[element(b"", value)[0]]


def _is_undefined(value: Any) -> bool:
    return isinstance(value, RawValue) and value.kind == codes.UNDEFINED


def _is_nan(value: Any) -> bool:
    if isinstance(value, Decimal128):
        return value.to_decimal().is_nan()
    return isinstance(value, float) and math.isnan(value)


# --- the sort key as an expression


def sort_key(path: str, way: int) -> Any:
    """Expression: what a document is sorted by, as `{$meta: "sortKey"}` says it."""
    if path == "_id":
        return "$_id"
    found: Any = {"$let": {"vars": {"keys": _keys(path, "$", 0)}, "in": _first("$$keys", way)}}
    return found if "." in path else {"$cond": [{"$isArray": f"${path}"}, found, _present(f"${path}")]}


def _first(keys: str, way: int) -> Any:
    nearer = {"$cond": [{"$lt" if way > 0 else "$gt": ["$$this", "$$value"]}, "$$this", "$$value"]}
    return {"$reduce": {"input": keys, "initialValue": {"$arrayElemAt": [keys, 0]}, "in": nearer}}


def _keys(path: str, inside: str, depth: int) -> Any:
    """All keys that an index has of a document. `inside`: the beginning of a reference to what holds the path."""
    name, _, rest = path.partition(".")
    value = f"{inside}{name}"
    if not rest:
        empty = {"$eq": [value, []]}
        alone = {"$cond": [empty, under("$literal", [_UNDEFINED]), value]}
        return {"$cond": [{"$isArray": value}, alone, [_present(value)]]}
    one = f"e{depth}"
    deeper = {"$cond": [_is_object(f"$${one}"), _keys(rest, f"$${one}.", depth + 1), [None]]}
    each = {"$map": {"input": value, "as": one, "in": deeper}}
    joined = {"$reduce": {"input": each, "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this"]}}}
    many = {"$cond": [{"$eq": [value, []]}, [None], joined]}
    return {"$cond": [{"$isArray": value}, many, {"$let": {"vars": {one: value}, "in": deeper}}]}


def _is_object(value: str) -> Any:
    return {"$eq": [{"$type": value}, "object"]}


def _present(value: str) -> Any:
    return {"$cond": [{"$eq": [{"$type": value}, "missing"]}, None, value]}
