"""Documents as JSON: how each BSON type looks in an answer.

| BSON type             | JSON                                                                     |
|-----------------------|--------------------------------------------------------------------------|
| double                | number; NaN and the infinities, which JSON cannot say, are `null`        |
| string, symbol        | string; U+FFFD stands for bytes that are no UTF-8                        |
| document, array       | object, array; field order is kept; of two fields of one name the first  |
| int, long             | number, all 64 bits (JavaScript readers: beyond 2^53 use a big-int parser) |
| bool, null, undefined | `true`/`false`, `null`, `null`                                           |
| ObjectId              | string of 24 hex digits                                                  |
| date                  | string, RFC 3339, UTC, milliseconds; beyond years 1-9999 a number: milliseconds since 1970 |
| Decimal128            | string, e.g. `"10.50"`; `"NaN"`, `"Infinity"`, `"-Infinity"`             |
| UUID (binary 4)       | string, e.g. `"12345678-1234-5678-1234-567812345678"`; not of 16 bytes: as binary |
| binary                | string, base64 (subtype 3, too)                                          |
| regular expression    | `{"$regex": pattern, "$options": options}`                               |
| timestamp             | string of 16 hex digits: a version                                       |
| JavaScript            | string; with scope `{"$code": code, "$scope": scope}`                    |
| DBRef                 | an object like any other: `{"$ref": collection, "$id": id, …}`, as it is stored |
| DBPointer             | `{"$ref": namespace, "$id": id}`                                         |
| MinKey, MaxKey        | `{"$minKey": 1}`, `{"$maxKey": 1}`                                       |
"""

import base64
import datetime
import re
from collections.abc import Mapping
from typing import Any

import orjson
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp

from neverstale.bson import codes
from neverstale.bson.values import RawObject, RawValue
from neverstale.versions import from_timestamp, to_hex

# orjson writes dates itself in microseconds or none; ours always have milliseconds, so they pass through `_other`.
# So do subclasses (a `Code` is a `str`, and would lose its scope) and what BSON alone can hold.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS


def encode(document: Mapping[str, Any]) -> bytes:
    """A decoded document (see `neverstale.bson.values.decode`) as UTF-8 JSON, by the table above."""
    return orjson.dumps(document, default=_other, option=_OPTIONS)


def _date(value: datetime.datetime) -> str:
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return value.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _code(value: Code) -> Any:
    return str(value) if value.scope is None else {"$code": str(value), "$scope": value.scope}


def _flags(flags: int) -> str:
    letters = ((re.I, "i"), (re.L, "l"), (re.M, "m"), (re.S, "s"), (re.U, "u"), (re.X, "x"))
    return "".join(letter for flag, letter in letters if flags & flag)


def _raw(value: RawValue) -> Any:
    match value.kind:
        case codes.REGEX:
            return {"$regex": value.text, "$options": value.options}
        case codes.DBPOINTER:
            return {"$ref": value.text, "$id": value.payload[-12:].hex()}
        case codes.SCOPED:
            return {"$code": value.text, "$scope": value.scope}
        case codes.UNDEFINED:
            return None
        case codes.BINARY:
            return base64.b64encode(value.payload[5:]).decode("ascii")
    return value.text


def _other(value: Any) -> Any:
    match value:
        case Int64():  # the most frequent one
            return int(value)
        case ObjectId():
            return str(value)
        case datetime.datetime():
            return _date(value)
        case DatetimeMS():
            return int(value)
        case Decimal128():
            return str(value)
        case Binary() | bytes():
            return base64.b64encode(value).decode("ascii")
        case Timestamp():
            return to_hex(from_timestamp(value))
        case Regex():
            return {"$regex": value.pattern, "$options": _flags(value.flags)}
        case re.Pattern():
            return {"$regex": value.pattern, "$options": _flags(value.flags)}
        case Code():
            return _code(value)
        case RawObject():
            return dict(value)
        case RawValue():
            return _raw(value)
        case MinKey():
            return {"$minKey": 1}
        case MaxKey():
            return {"$maxKey": 1}
    raise TypeError(f"no JSON form for {type(value).__name__}")
