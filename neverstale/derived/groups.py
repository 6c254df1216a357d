"""Group values: what a field of a document contributes to, as text.

| the field's value                    | contributes to                                                      |
|--------------------------------------|---------------------------------------------------------------------|
| missing, null, undefined             | the group `null`, as `{field: null}` matches both in MongoDB        |
| a string, number, date, … (a scalar) | the group of that value                                             |
| an object                            | the group of that object; numbers in it compare by value            |
| an array                             | the group of each distinct element, once                            |
| an empty array                       | no group                                                            |
| an array in an array                 | the group of the inner array as a whole                             |
| more than 32 distinct elements       | none: the document is *beyond* the bound, and whoever asks is told  |
| a value of more than 512 bytes       | none: beyond, as above                                              |
| a path through an array of objects   | the values in each of the objects, as in a MongoDB query            |

Numbers of any type are one group if they are equal (1, 1.0, `NumberLong(1)`, `NumberDecimal("1.00")`), as MongoDB
compares them. Strings compare byte by byte: a collection's collation is not followed.

**Texts.** A value's text is a type letter, a colon and the value; equal values have equal texts, and unequal ones
never do. A *fact* is a field's texts, joined by `JOIN`; a *group* of several fields is their texts, joined by `|`.
"""

import datetime
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, Final

import bson
from bson.binary import UUID_SUBTYPE, Binary, UuidRepresentation
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId

JOIN: Final = "\x1e"
"""Between the texts of an array's elements."""
SPLIT: Final = "\x1f"
"""Between a document's facts, see `neverstale.derived.shape`."""
BEYOND: Final = "*"
"""The fact of a field that is beyond a bound. No text is `*`."""
NULL: Final = "n"
MAX_TEXTS: Final = 32
"""Groups that one document contributes to, for each field and for each declaration."""
MAX_TEXT_BYTES: Final = 512

_SPECIAL = re.compile(r"[\x1e\x1f|\\]")
_ESCAPES: Final = {"\x1e": "\\e", "\x1f": "\\f", "|": "\\p", "\\": "\\\\"}
_ESCAPED = re.compile(r"\\[efp\\]")
_PLAIN: Final = {escape: plain for plain, escape in _ESCAPES.items()}
_UUIDS: bson.CodecOptions[Any] = bson.CodecOptions(
    uuid_representation=UuidRepresentation.STANDARD,
    tz_aware=True,
    datetime_conversion=bson.DatetimeConversion.DATETIME_AUTO,
)


def text_of(value: Any) -> str:
    """The text of one value (not of an array as a field's value: see `fact`)."""
    spell = _SPELL.get(type(value))
    text = spell(value) if spell is not None else _rare(value)
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text) if _SPECIAL.search(text) else text


@lru_cache(maxsize=65_536)
def short_text(value: str) -> str:
    """`text_of` a short string; most values come again and again."""
    return text_of(value)


def value_of(text: str) -> Any:
    """The value that a text spells, as BSON types; the opposite of `text_of`."""
    plain = _ESCAPED.sub(lambda match: _PLAIN[match[0]], text) if "\\" in text else text
    kind, value = plain[:1], plain[2:]
    return _READ[kind](value)


def fact(values: Sequence[Any]) -> str:
    """The distinct texts of everything that a path finds in a document, joined; `BEYOND` past a bound."""
    texts: dict[str, None] = {}
    for value in values:
        for element in value if isinstance(value, list) else (value,):
            text = text_of(element)
            if len(text) > MAX_TEXT_BYTES // 4 and len(text.encode()) > MAX_TEXT_BYTES:
                return BEYOND
            texts[text] = None
            if len(texts) > MAX_TEXTS:
                return BEYOND
    return JOIN.join(texts)


def at_path(document: Mapping[str, Any], path: str) -> list[Any]:
    """Everything that a path finds; one `None` where it finds nothing. Arrays of objects fan out."""
    name, _, rest = path.partition(".")
    value = document.get(name)
    if not rest:
        return [value]
    if isinstance(value, Mapping):
        return at_path(value, rest)
    if isinstance(value, list):
        found = [item for element in value if isinstance(element, Mapping) for item in at_path(element, rest)]
        return found or [None]
    return [None]


def fact_at(document: Mapping[str, Any], path: str) -> str:
    """The fact of one path of a document."""
    if "." not in path:
        value = document.get(path)
        if type(value) is str and len(value) <= MAX_TEXT_BYTES // 4:
            return text_of(value)
        return fact((value,))
    return fact(at_path(document, path))


def texts_of(joined: str) -> tuple[str, ...] | None:
    """The texts of a fact: none for an empty array; `None` if the field is beyond a bound."""
    if joined == BEYOND:
        return None
    return tuple(joined.split(JOIN)) if joined else ()


def group(texts: Sequence[str]) -> str:
    """The name of a group of several fields; the empty text for no field."""
    return "|".join(texts)


def members(name: str, fields: int) -> tuple[str, ...]:
    """The texts of a group, one for each field; the opposite of `group`."""
    return tuple(name.split("|")) if fields else ()


@lru_cache(maxsize=65_536)
def combinations(facts: tuple[str, ...]) -> tuple[str, ...] | None:
    """The groups of a document with these facts; `None` if there are too many of them, or a fact is beyond."""
    joined = "|".join(facts)
    if JOIN not in joined and BEYOND not in facts and "" not in facts:
        return (joined,)
    choices = [texts_of(item) for item in facts]
    return crossed(choices)


def crossed(choices: Sequence[Sequence[str] | None]) -> tuple[str, ...] | None:
    """Every group that takes one text of each choice; `None` if there are too many, or a choice is beyond."""
    count = 1
    for texts in choices:
        if texts is None:
            return None
        count *= len(texts)
    if count > MAX_TEXTS:
        return None
    return tuple("|".join(texts) for texts in product(*(texts for texts in choices if texts is not None)))


def _number(value: float) -> str:
    return f"i:{int(value)}" if value.is_integer() else f"f:{value!r}"


def _decimal(value: Decimal128) -> str:
    number = value.to_decimal()
    if not number.is_finite():
        return "f:nan" if number.is_nan() else f"f:{float(number)!r}"
    if number == number.to_integral_value():
        return f"i:{int(number)}"
    nearest = float(number)
    # A double and a decimal that are exactly equal are one value to MongoDB, e.g. 0.5; 0.1 and "0.1" are not.
    return f"f:{nearest!r}" if number == number.from_float(nearest) else f"m:{number.normalize()}"


def _date(value: datetime.datetime) -> str:
    return f"d:{int(DatetimeMS(value))}"


def _binary(value: Binary) -> str:
    return f"u:{value.hex()}" if value.subtype == UUID_SUBTYPE and len(value) == 16 else _encoded(value)


_SPELL: Final[dict[type, Callable[[Any], str]]] = {
    str: lambda value: "s:" + value,
    int: lambda value: f"i:{value}",
    Int64: lambda value: f"i:{int(value)}",
    bool: lambda value: "b:1" if value else "b:0",
    type(None): lambda value: NULL,
    float: _number,
    Decimal128: _decimal,
    datetime.datetime: _date,
    DatetimeMS: lambda value: f"d:{int(value)}",
    ObjectId: lambda value: f"o:{value}",
    uuid.UUID: lambda value: f"u:{value.hex}",
    Binary: _binary,
}


def _read_date(ms: int) -> datetime.datetime | DatetimeMS:
    date = DatetimeMS(ms)
    in_range = -62_135_596_800_000 <= ms <= 253_402_300_799_999
    return date.as_datetime(_UUIDS) if in_range else date


_READ: Final[dict[str, Callable[[str], Any]]] = {
    "s": str,
    "i": int,
    "b": lambda text: text == "1",
    "n": lambda text: None,
    "f": float,
    "m": Decimal128,
    "d": lambda text: _read_date(int(text)),
    "o": ObjectId,
    "u": lambda text: uuid.UUID(text),
    "x": lambda text: bson.decode(bytes.fromhex(text), _UUIDS)[""],
}


def _rare(value: Any) -> str:
    if isinstance(value, str) and not isinstance(value, Code):
        return "s:" + value
    return _encoded(value)


def _encoded(value: Any) -> str:
    return "x:" + bson.encode({"": _normal(value)}, codec_options=_UUIDS).hex()


def _normal(value: Any) -> Any:
    """Equal numbers inside objects and arrays must have equal bytes."""
    if isinstance(value, Mapping):
        return {name: _normal(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, float | int | Decimal128):
        return value
    text = text_of(value)
    read = value_of(text)
    return float(read) if isinstance(read, int) and not -(2**63) <= read < 2**63 else read


def meets(changed: str, path: str) -> bool:
    """Whether a change at one path may change what another finds: they are equal, or one lies inside the other.

    Positions in arrays (`legs.0.gate`) are nothing that a declared path names.
    """
    if changed == path:
        return True
    if "." in changed:
        changed = ".".join(part for part in changed.split(".") if not part.isdigit())
    return changed == path or changed.startswith(path + ".") or path.startswith(changed + ".")
