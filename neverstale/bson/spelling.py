"""BSON in one spelling: equal values have equal bytes, and unequal ones never do.

MongoDB compares numbers by their exact value, whatever their types and at any depth, takes a symbol for a string, and
does not look at the names of an array's places. It stores all of them as they came, and does not always send them so:
a projection or an aggregation may turn one NaN or one zero into another.

Nothing here takes longer for a number's exponent: it is never spelled out.
"""

import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from bson.decimal128 import Decimal128

from neverstale.bson import codes
from neverstale.bson.values import element, elements

_LIMIT: Final = 2**63
_NUMBERS: Final = frozenset((codes.DOUBLE, codes.INT, codes.LONG, codes.DECIMAL))
_DOUBLE: Final = struct.Struct("<d")
NUMBERS: Final[dict[str, Callable[[str], Any]]] = {"i": int, "f": float, "m": Decimal128}
"""How the text of a number, behind its letter and colon, is read."""


def whole(number: int) -> str:
    """The text of a whole number."""
    return f"i:{number}" if -_LIMIT <= number < _LIMIT else _exact(Decimal(number))


def double(number: float) -> str:
    """The text of a double."""
    return f"i:{int(number)}" if number.is_integer() and -_LIMIT <= number < _LIMIT else f"f:{number!r}"


def decimal(value: Decimal128) -> str:
    """The text of a decimal."""
    number = value.to_decimal()
    return "f:nan" if number.is_nan() else _exact(number)


def _exact(number: Decimal) -> str:
    nearest = float(number)
    if Decimal(nearest) == number:
        return double(nearest)
    if -_LIMIT <= number < _LIMIT and number == number.to_integral_value():
        return f"i:{int(number)}"
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    spelled = "".join(map(str, digits))
    whole = spelled.rstrip("0")
    return f"m:{'-' if sign else ''}{whole}E{exponent + len(spelled) - len(whole)}"


def spelled(value: Any) -> bytes:
    """`{"": value}` as BSON, each number in one spelling."""
    raw = element(b"", value)
    return _document([_spelled(raw[0], b"", raw[2:])])


def _spelled(kind: int, name: bytes, payload: bytes) -> bytes:
    """An element as all that are equal to it are spelled."""
    if kind in _NUMBERS:
        kind, payload = _number(kind, payload)
    elif kind == codes.SYMBOL:
        kind = codes.STRING
    elif kind == codes.OBJECT:
        payload = _document([_spelled(*one) for one in elements(payload)])
    elif kind == codes.ARRAY:
        payload = _document([_spelled(one[0], b"%d" % i, one[2]) for i, one in enumerate(elements(payload))])
    elif kind == codes.SCOPED:
        scope = 8 + int.from_bytes(payload[4:8], "little")
        inner = payload[4:scope] + _document([_spelled(*one) for one in elements(payload[scope:])])
        payload = (len(inner) + 4).to_bytes(4, "little") + inner
    return bytes((kind,)) + name + b"\0" + payload


def _number(kind: int, payload: bytes) -> tuple[int, bytes]:
    if kind == codes.DECIMAL:
        text = decimal(Decimal128.from_bid(payload))
    elif kind == codes.DOUBLE:
        text = double(_DOUBLE.unpack(payload)[0])
    else:
        text = f"i:{int.from_bytes(payload, 'little', signed=True)}"
    raw = element(b"", NUMBERS[text[0]](text[2:]))
    return raw[0], raw[2:]


def _document(parts: list[bytes]) -> bytes:
    body = b"".join(parts)
    return (len(body) + 5).to_bytes(4, "little") + body + b"\0"
