"""Texts: one value as plain Unicode. Equal values have equal texts, and unequal ones never do.

A text is a type letter, a colon and the value. Numbers are one text if they are exactly equal, whatever their types
(1, 1.0, `NumberLong(1)`, `NumberDecimal("1.00")`), also inside objects; so are a symbol and a string. All else that
MongoDB tells apart has texts that differ.

| text      | of                                                                                            |
|-----------|-----------------------------------------------------------------------------------------------|
| `n`       | null, undefined                                                                               |
| `s:…`     | a string                                                                                      |
| `y:…`     | a string that is no UTF-8: its bytes, each as the letter of its number                        |
| `i:…`     | a whole number of 64 bits                                                                     |
| `f:…`     | any other number that is exactly a double, e.g. `f:0.5`, `f:1e+20`, `f:nan`                   |
| `m:…`     | a decimal that is no double: whole digits and an exponent, e.g. `m:1E5000`                    |
| `b:…`     | true or false, as 1 or 0                                                                      |
| `d:…`     | a date, in milliseconds since 1970                                                            |
| `o:…`     | an ObjectId                                                                                   |
| `u:…`     | a UUID                                                                                        |
| `x:…`     | all else: BSON with each number in one spelling, in hex                                       |

Nothing here takes longer for a number's exponent: it is never spelled out.
"""

import datetime
import re
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from bson.binary import UUID_SUBTYPE, Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId

from neverstale.bson import codes
from neverstale.bson.spelling import NUMBERS, decimal, double, spelled, whole
from neverstale.bson.values import CODEC, RawValue, decode

NULL: Final = "n"

_SPECIAL = re.compile(r"[\x1e\x1f|\\]")
_ESCAPES: Final = {"\x1e": "\\e", "\x1f": "\\f", "|": "\\p", "\\": "\\\\"}
_ESCAPED = re.compile(r"\\[efp\\]")
_PLAIN: Final = {escape: plain for plain, escape in _ESCAPES.items()}
_DATES: Final = range(-62_135_596_800_000, 253_402_300_800_000)
"""Milliseconds that `datetime` can hold."""
_UUID_BYTES: Final = 16


def text_of(value: Any) -> str:
    """The text of one value (not of an array as a field's value: see `neverstale.derived.groups.fact`)."""
    spell = _SPELL.get(type(value))
    text = spell(value) if spell is not None else _rare(value)
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text) if _SPECIAL.search(text) else text


@lru_cache(maxsize=65_536)
def short_text(value: str) -> str:
    """`text_of` a short string; most values come again and again."""
    return text_of(value)


def value_of(text: str) -> Any:
    """The value that a text spells, as BSON types; the opposite of `text_of`. Of equal values it is the same one."""
    plain = _ESCAPED.sub(lambda match: _PLAIN[match[0]], text) if "\\" in text else text
    kind, value = plain[:1], plain[2:]
    return _READ[kind](value)


def _binary(value: Binary) -> str:
    is_uuid = value.subtype == UUID_SUBTYPE and len(value) == _UUID_BYTES
    return f"u:{value.hex()}" if is_uuid else f"x:{spelled(value).hex()}"


def _raw(value: RawValue) -> str:
    if value.kind == codes.STRING:
        return "y:" + value.payload[4:-1].decode("latin-1")
    return NULL if value.kind == codes.UNDEFINED else f"x:{spelled(value).hex()}"


_SPELL: Final[dict[type, Callable[[Any], str]]] = {
    str: lambda value: "s:" + value,
    int: whole,
    Int64: lambda value: f"i:{int(value)}",
    bool: lambda value: "b:1" if value else "b:0",
    type(None): lambda value: NULL,
    float: double,
    Decimal128: decimal,
    datetime.datetime: lambda value: f"d:{int(DatetimeMS(value))}",
    DatetimeMS: lambda value: f"d:{int(value)}",
    ObjectId: lambda value: f"o:{value}",
    uuid.UUID: lambda value: f"u:{value.hex}",
    Binary: _binary,
    RawValue: _raw,
}


def _rare(value: Any) -> str:
    if isinstance(value, str) and not isinstance(value, Code):
        return "s:" + value
    return f"x:{spelled(value).hex()}"


def _read_date(ms: int) -> datetime.datetime | DatetimeMS:
    date = DatetimeMS(ms)
    return date.as_datetime(CODEC) if ms in _DATES else date


def _read_raw(text: str) -> RawValue:
    raw = text.encode("latin-1")
    return RawValue(codes.STRING, (len(raw) + 1).to_bytes(4, "little") + raw + b"\0")


_READ: Final[dict[str, Callable[[str], Any]]] = {
    "s": str,
    "y": _read_raw,
    **NUMBERS,
    "b": lambda text: text == "1",
    "n": lambda text: None,
    "d": lambda text: _read_date(int(text)),
    "o": ObjectId,
    "u": lambda text: uuid.UUID(text),
    "x": lambda text: decode(bytes.fromhex(text))[""],
}
