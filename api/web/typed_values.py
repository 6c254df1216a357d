"""Typed values: how a caller spells a value of any BSON type, and is told how to.

    day:int=3      kind:decimal=1E%2B5000      at:date=253402300800000ms      kind:bson=DAAAABAAAQAAAAA

`bson` says every value there is, also one that has no type of its own here: base64url of a document with one field.
What it names is spelled once more before anybody sees it, so that a caller can ask for a value and for nothing else.
"""

import base64
import binascii
import datetime
import math
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.errors import InvalidId
from bson.objectid import ObjectId

from neverstale.api.web.well_formed import check_document
from neverstale.bson.texts import text_of, value_of
from neverstale.bson.values import decode, elements, under
from neverstale.derived.groups import MAX_TEXT_BYTES

NULL: Final = "null"
MAX_VALUE_BYTES: Final = MAX_TEXT_BYTES - 2
"""Of a string, and of what any other value is inside."""
MAX_SPELLED: Final = 4 * MAX_TEXT_BYTES
_MAX_LEVELS: Final = 64
"""Each takes 7 bytes at least: a value of more is too long."""


class WrongValue(ValueError):
    """Says what was expected."""


def read(kind: str, text: str) -> Any:
    """The value that a text of one of `TYPES` spells; raises `WrongValue`."""
    reader, expected = _READ[kind]
    if len(text) > MAX_SPELLED or (reader is str and len(text.encode()) > MAX_VALUE_BYTES):
        raise WrongValue(f"longer than {MAX_VALUE_BYTES} bytes")
    try:
        value = reader(text)
        spelled = text_of(value)
    except (ValueError, InvalidId, ArithmeticError, OverflowError, binascii.Error):
        raise WrongValue(f"expected {expected}") from None
    if reader is not str and len(spelled.encode()) > MAX_TEXT_BYTES:
        raise WrongValue(f"longer than {MAX_VALUE_BYTES} bytes")
    return value


def question(values: Mapping[str, Any], declared: Mapping[str, str]) -> str | None:
    """The query parameters that name these values, each with its type; empty where their JSON says enough.

    JSON says enough of `null`, `true`, a whole number (`:int`), any other number (`:double`), and of a string where
    the field is declared as what it is, or as nothing and it is one. `None`: a value is too long to be asked for.
    """
    spelled = {path: spell(value) for path, value in values.items()}
    if all(_says_enough(kind, text, values[path], declared[path]) for path, (kind, text) in spelled.items()):
        return ""
    for kind, text in spelled.values():
        if kind != NULL:
            try:
                read(kind, text)
            except WrongValue:
                return None
    return "&".join(
        f"{quote(path, safe='')}:{kind}" + (f"={quote(text, safe='')}" if kind != NULL else "")
        for path, (kind, text) in spelled.items()
    )


def spell(value: Any) -> tuple[str, str]:
    """The type and the text that `read` makes an equal value of."""
    match value:
        case None:
            return NULL, ""
        case bool():
            return "bool", "true" if value else "false"
        case int():
            return "int", str(int(value))
        case float():
            return "double", repr(value)
        case str() if not isinstance(value, Code):
            return "string", value
        case Decimal128():
            return "decimal", str(value)
        case datetime.datetime():
            return "date", value.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case DatetimeMS():
            return "date", f"{int(value)}ms"
        case ObjectId():
            return "objectid", str(value)
        case uuid.UUID():
            return "uuid", str(value)
        case bytes() if not isinstance(value, Binary):
            return "binary", base64.b64encode(value).decode()
    return "bson", base64.urlsafe_b64encode(under("", value).raw).rstrip(b"=").decode()


def _says_enough(kind: str, text: str, value: Any, declared: str) -> bool:
    if kind in (NULL, "bool", "int"):
        return True
    if kind == "double":
        return math.isfinite(value)
    if isinstance(value, DatetimeMS) or (kind == "string" and len(text.encode()) > MAX_VALUE_BYTES):
        return False
    return kind == declared and kind != "bson"


def _int(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,19}", text) or not -(2**63) <= int(text) < 2**63:
        raise ValueError
    return int(text)


_NAMED: Final = {"nan", "inf", "-inf", "NaN", "Infinity", "-Infinity"}


def _double(text: str) -> float:
    if text in _NAMED:
        return float(text)
    if not re.fullmatch(r"[-+0-9.eE]{1,40}", text) or not math.isfinite(float(text)):
        raise ValueError
    return float(text)


def _decimal(text: str) -> Decimal128:
    if text not in _NAMED and not re.fullmatch(r"[-+0-9.eE]{1,60}", text):
        raise ValueError
    return Decimal128(text)


def _bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _date(text: str) -> datetime.datetime | DatetimeMS:
    if ms := re.fullmatch(r"(-?[0-9]{1,19})ms", text):
        found: datetime.datetime | DatetimeMS = value_of(f"d:{_int(ms[1])}")
        return found
    date = datetime.datetime.fromisoformat(text)
    if date.microsecond % 1000:
        raise ValueError
    return date.astimezone(datetime.UTC) if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)


def _binary(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _bson(text: str) -> Any:
    if not re.fullmatch(r"[-_A-Za-z0-9]*={0,2}", text):
        raise ValueError
    bare = text.rstrip("=")
    raw = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    check_document(raw, _MAX_LEVELS)
    if len(list(elements(raw))) != 1:
        raise ValueError
    (value,) = decode(raw).values()
    return value_of(text_of(value))


_READ: Final[dict[str, tuple[Callable[[str], Any], str]]] = {
    "string": (str, "a text"),
    "int": (_int, "a whole number of 64 bits"),
    "long": (_int, "a whole number of 64 bits"),
    "double": (_double, "a number, NaN, Infinity or -Infinity"),
    "decimal": (_decimal, "a number of at most 34 digits, NaN, Infinity or -Infinity"),
    "bool": (_bool, "true or false"),
    "date": (_date, "a date, e.g. 2013-02-08T14:05:00.000Z, or milliseconds since 1970, e.g. 1360332300000ms"),
    "objectid": (ObjectId, "an ObjectId: 24 hex digits"),
    "uuid": (uuid.UUID, "a UUID"),
    "binary": (_binary, "base64"),
    "bson": (_bson, "base64url of a BSON document with one field, the value"),
}
TYPES: Final = tuple(_READ)
