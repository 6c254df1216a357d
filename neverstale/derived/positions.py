"""Positions in a sorted list: the filter for what comes behind a sort key.

`{field: {$gt: x}}` only finds values of x's own type, but a sort goes on with values of later types
(https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/). So a position becomes branches, each of
them one range of the list's index:

    sort [a, _id], behind (x, k):   a > x   or   a of a later type   or   a = x and _id > k

Missing fields sort like `null`. A sorted field that is an array is sorted by one of its elements, but found by any of
them: lists should not be sorted by arrays.
"""

import datetime
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.timestamp import Timestamp

Branch = dict[str, Any]

_BRACKETS: Final[tuple[tuple[str, ...], ...]] = (
    ("minKey",),
    ("null",),  # and missing, which `$type` does not find
    ("int", "long", "double", "decimal"),
    ("string", "symbol"),
    ("object",),
    ("array",),
    ("binData",),
    ("objectId",),
    ("bool",),
    ("date",),
    ("timestamp",),
    ("regex",),
    ("dbPointer", "javascript", "javascriptWithScope"),
    ("maxKey",),
)
"""Types in their order; values of one bracket are compared with one another."""
_NULL: Final = 1
_NUMBER: Final = 2
_ARRAY: Final = 5
_PLACES: Final[dict[type, int]] = {
    MinKey: 0,
    type(None): _NULL,
    int: _NUMBER,
    float: _NUMBER,
    Decimal128: _NUMBER,
    str: 3,
    dict: 4,
    Binary: 6,
    bytes: 6,
    uuid.UUID: 6,
    ObjectId: 7,
    bool: 8,
    datetime.datetime: 9,
    DatetimeMS: 9,
    Timestamp: 10,
    MaxKey: 13,
}


def can_be_compared(value: Any) -> bool:
    """Whether a filter can ask for what comes behind this value."""
    return _place(value) is not None


def after(order: Sequence[tuple[str, int]], position: Sequence[Any]) -> Iterator[Branch]:
    """The branches of what sorts behind a position; `order` holds paths and ways, 1 or -1."""
    equal: Branch = {}
    for (path, way), value in zip(order, position, strict=True):
        for condition in _behind(value, way):
            yield equal | {path: condition}
        equal = equal | {path: {"$eq": value}}


def _behind(value: Any, way: int) -> Iterator[Mapping[str, Any]]:
    place = _place(value)
    assert place is not None
    if _is_nan(value):
        if way > 0:
            yield {"$gte": -math.inf}
    elif place != _NULL:
        yield {"$gt" if way > 0 else "$lt": value}
    later = range(place + 1, len(_BRACKETS)) if way > 0 else range(place)
    types = [kind for bracket in later if bracket not in (_NULL, _ARRAY) for kind in _BRACKETS[bracket]]
    if types:
        yield {"$type": types}
    if _NULL in later:
        yield {"$eq": None}
    if place == _NUMBER and way < 0 and not _is_nan(value):
        yield {"$eq": math.nan}  # the least number, and less than none


def _place(value: Any) -> int | None:
    for kind in type(value).__mro__:
        if (place := _PLACES.get(kind)) is not None:
            return place
    return None


def _is_nan(value: Any) -> bool:
    if isinstance(value, Decimal128):
        return value.to_decimal().is_nan()
    return isinstance(value, float) and math.isnan(value)
