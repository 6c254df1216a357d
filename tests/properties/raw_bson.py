"""Documents as bytes: every type of BSON, and what no driver of today would write but a server stores.

`ODD` holds one value for each kind of thing that went wrong in some client, `values` and `documents` are strategies
that make any of them, side by side and inside one another. Built by hand, since a driver refuses half of it. What a
real server stores, and what it changes or refuses, is proved by `tests/integration/neverstale/test_raw_bson.py`.

A server refuses: a bool that is neither 0 nor 1, a text without its closing zero, more than 180 levels. It writes the
time into a timestamp of zero that is no part of another value.
"""

import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from bson.decimal128 import Decimal128
from hypothesis import strategies as st

DOUBLE, STRING, OBJECT, ARRAY, BINARY, UNDEFINED, OID, BOOL, DATE, NULL, REGEX = range(0x01, 0x0C)
DBPOINTER, CODE, SYMBOL, SCOPED, INT, TIMESTAMP, LONG, DECIMAL = range(0x0C, 0x14)
MINKEY: Final = 0xFF
MAXKEY: Final = 0x7F
KINDS: Final = (*range(DOUBLE, DECIMAL + 1), MINKEY, MAXKEY)
"""All 21 types."""
MOST_LEVELS: Final = 178
"""Of a field's value: with the document around it and a scalar inside, a server stores no more."""


class Value(NamedTuple):
    """A value as it lies in BSON, without the name that it has there."""

    kind: int
    payload: bytes

    def named(self, name: bytes | str) -> bytes:
        """As an element of a document."""
        spelled = name.encode() if isinstance(name, str) else name
        return bytes((self.kind,)) + spelled + b"\0" + self.payload


def document(*elements: bytes) -> bytes:
    body = b"".join(elements)
    return _i32(len(body) + 5) + body + b"\0"


def _i32(number: int) -> bytes:
    return number.to_bytes(4, "little", signed=True)


def _text(raw: bytes) -> bytes:
    return _i32(len(raw) + 1) + raw + b"\0"


# --- values by hand


def double(number: float) -> Value:
    return Value(DOUBLE, struct.pack("<d", number))


def double_bits(bits: int) -> Value:
    return Value(DOUBLE, struct.pack("<Q", bits))


def string(raw: bytes | str) -> Value:
    return Value(STRING, _text(raw.encode() if isinstance(raw, str) else raw))


def symbol(raw: bytes) -> Value:
    return Value(SYMBOL, _text(raw))


def embedded(*elements: bytes) -> Value:
    return Value(OBJECT, document(*elements))


def array(*values: Value) -> Value:
    return Value(ARRAY, document(*(value.named(b"%d" % i) for i, value in enumerate(values))))


def binary(subtype: int, data: bytes) -> Value:
    return Value(BINARY, _i32(len(data)) + bytes((subtype,)) + data)


def integer(number: int) -> Value:
    return Value(INT, _i32(number))


def long(number: int) -> Value:
    return Value(LONG, number.to_bytes(8, "little", signed=True))


def date(ms: int) -> Value:
    return Value(DATE, ms.to_bytes(8, "little", signed=True))


def timestamp(seconds: int, increment: int) -> Value:
    return Value(TIMESTAMP, increment.to_bytes(4, "little") + seconds.to_bytes(4, "little"))


def decimal(text: str) -> Value:
    return Value(DECIMAL, Decimal128(text).bid)


def regex(pattern: bytes, options: bytes = b"") -> Value:
    return Value(REGEX, pattern + b"\0" + options + b"\0")


def pointer(namespace: bytes, oid: bytes) -> Value:
    return Value(DBPOINTER, _text(namespace) + oid)


def code(raw: bytes) -> Value:
    return Value(CODE, _text(raw))


def scoped(raw: bytes, *scope: bytes) -> Value:
    inner = _text(raw) + document(*scope)
    return Value(SCOPED, _i32(len(inner) + 4) + inner)


def oid(raw: bytes) -> Value:
    return Value(OID, raw)


def boolean(value: bool) -> Value:
    return Value(BOOL, b"\1" if value else b"\0")


NOTHING: Final = Value(NULL, b"")
UNDEFINED_VALUE: Final = Value(UNDEFINED, b"")
LEAST: Final = Value(MINKEY, b"")
GREATEST: Final = Value(MAXKEY, b"")
LATIN1: Final = b"caf\xe9"


def nested(levels: int, inner: Value, around: Callable[[Value], Value]) -> Value:
    """A value inside so many others."""
    for _ in range(levels):
        inner = around(inner)
    return inner


def _in_object(value: Value) -> Value:
    return embedded(value.named("a"))


ODD: Final[dict[str, Value]] = {
    "a string that is no UTF-8": string(LATIN1),
    "a string that breaks off within a letter": string(b"a\xe2\x82"),
    "a string with half a surrogate pair": string(b"\xed\xa0\x80"),
    "a string with a zero": string(b"a\0b"),
    "an empty string": string(b""),
    "a string with what separates groups": string(b"a|b\\p\x1e\x1f*"),
    "a symbol": symbol(b"tag"),
    "a symbol that is no UTF-8": symbol(LATIN1),
    "a UUID of 36 letters": binary(4, b"12345678-1234-5678-1234-567812345678"),
    "an empty UUID": binary(4, b""),
    "a UUID": binary(4, bytes(range(16))),
    "a legacy UUID": binary(3, bytes(range(16))),
    "a legacy UUID of 3 bytes": binary(3, b"abc"),
    "an old binary whose length is wrong": binary(2, b"\xff\xff\xff\x7fabc"),
    "an old binary": binary(2, b"\3\0\0\0abc"),
    "an old binary without a length": binary(2, b""),
    "a binary": binary(0, b"abc"),
    "an encrypted binary": binary(6, b"\1abc"),
    "a binary of a user's type": binary(0x80, b"abc"),
    "the last binary type": binary(0xFF, b""),
    "NaN": double(float("nan")),
    "another NaN": double_bits(0xFFF8_0000_0000_0001),
    "a signalling NaN": double_bits(0x7FF0_0000_0000_0001),
    "infinity": double(float("inf")),
    "minus infinity": double(float("-inf")),
    "minus zero": double(-0.0),
    "the least double": double(5e-324),
    "the largest double": double(1.7976931348623157e308),
    "a whole number beyond 64 bits": double(1e20),
    "2^63 as a double": double(2.0**63),
    "2^63 as a decimal": decimal("9223372036854775808"),
    "one": integer(1),
    "one as a long": long(1),
    "one as a double": double(1.0),
    "the largest long": long(2**63 - 1),
    "the least long": long(-(2**63)),
    "a decimal of 5001 digits": decimal("1E+5000"),
    "the largest decimal": decimal("9999999999999999999999999999999999E+6111"),
    "the least decimal": decimal("1E-6176"),
    "a zero with an exponent": decimal("0E+6111"),
    "a zero with a small exponent": decimal("-0E-6176"),
    "a decimal that a double is near": decimal("0.1"),
    "a decimal that a double is": decimal("0.5"),
    "the digits of a double's 0.1": decimal("0.1000000000000000055511151231257827"),
    "1e20 as a decimal": decimal("1E+20"),
    "2^100 as a decimal": decimal("1267650600228229401496703205376"),
    "2^100 as a double": double(2.0**100),
    "a decimal with zeros": decimal("1.00"),
    "decimal NaN": decimal("NaN"),
    "decimal signalling NaN": decimal("sNaN"),
    "decimal -NaN with a payload": Value(DECIMAL, b"\1" * 15 + b"\xfc"),
    "decimal infinity": decimal("Infinity"),
    "decimal minus infinity": decimal("-Infinity"),
    "a decimal of more than 34 digits": Value(DECIMAL, b"\xff" * 14 + b"\x41\x30"),
    "a decimal of another spelling": Value(DECIMAL, b"\xff" * 15 + b"\x6f"),
    "a date after year 9999": date(253_402_300_800_000),
    "a date before year 1": date(-62_135_596_800_001),
    "the last date": date(2**63 - 1),
    "the first date": date(-(2**63)),
    "the last date of year 9999": date(253_402_300_799_999),
    "a timestamp": timestamp(1, 2),
    "the last timestamp": timestamp(2**32 - 1, 2**32 - 1),
    "a regular expression": regex(b"a|b", b"ix"),
    "a regular expression that is no UTF-8": regex(LATIN1, b"i"),
    "a regular expression that is none": regex(b"(", b""),
    "options that nobody knows": regex(b"a", b"zq"),
    "options twice and in disorder": regex(b"a", b"xii"),
    "options that are no UTF-8": regex(b"a", b"\xff"),
    "all options": regex(b"a", b"ilmsux"),
    "a pointer": pointer(b"a.b", b"123456789012"),
    "a pointer that is no UTF-8": pointer(LATIN1, b"123456789012"),
    "a pointer with a zero": pointer(b"a\0b", b"123456789012"),
    "code": code(b"f()"),
    "code that is no UTF-8": code(LATIN1),
    "code with a zero": code(b"a\0b"),
    "code with an empty scope": scoped(b"f()"),
    "code with a scope": scoped(b"f()", integer(1).named("a")),
    "code with a scope of doubles": scoped(b"f()", double(1.0).named("a")),
    "code with a scope that has a name twice": scoped(b"f()", integer(1).named("a"), integer(2).named("a")),
    "code that is no UTF-8, with a scope": scoped(LATIN1, string(LATIN1).named(LATIN1)),
    "code with a scope like a reference": scoped(b"f()", string(b"c").named("$ref"), integer(1).named("$id")),
    "undefined": UNDEFINED_VALUE,
    "null": NOTHING,
    "the least key": LEAST,
    "the greatest key": GREATEST,
    "true": boolean(True),
    "false": boolean(False),
    "an object id": oid(bytes(range(12))),
    "an empty document": embedded(),
    "a name twice": embedded(integer(1).named("a"), integer(2).named("a")),
    "a name twice, elsewhere": embedded(integer(2).named("a"), integer(1).named("a")),
    "a name that is no UTF-8": embedded(integer(1).named(LATIN1)),
    "another name that is no UTF-8": embedded(integer(1).named(b"caf\xe8")),
    "an empty name": embedded(integer(1).named("")),
    "a name with a dot": embedded(integer(1).named("a.b")),
    "a name with a dollar": embedded(integer(1).named("$gt")),
    "a document in one order": embedded(integer(1).named("a"), integer(2).named("b")),
    "a document in another order": embedded(integer(2).named("b"), integer(1).named("a")),
    "a document with undefined": embedded(UNDEFINED_VALUE.named("a")),
    "a document with null": embedded(NOTHING.named("a")),
    "a document with a string that is no UTF-8": embedded(string(LATIN1).named("a")),
    "a document with a symbol": embedded(symbol(b"x").named("a")),
    "a document with a string": embedded(string(b"x").named("a")),
    "a document with a double": embedded(double(1.0).named("a")),
    "a document with a whole number": embedded(integer(1).named("a")),
    "a document with a decimal": embedded(decimal("1E+5000").named("a")),
    "a reference": embedded(string(b"users").named("$ref"), integer(1).named("$id")),
    "a reference in another order": embedded(integer(1).named("$id"), string(b"users").named("$ref")),
    "a reference with more": embedded(
        string(b"users").named("$ref"), integer(0).named("x"), integer(1).named("$id"), string(b"d").named("$db")
    ),
    "a reference to a number": embedded(integer(1).named("$ref"), integer(1).named("$id")),
    "a reference without an id": embedded(string(b"users").named("$ref")),
    "an empty array": array(),
    "an array of everything": array(NOTHING, integer(1), string(LATIN1), decimal("1E+5000"), UNDEFINED_VALUE),
    "an array of arrays": array(array(integer(1), integer(2)), array()),
    "an array of arrays with undefined": array(array(UNDEFINED_VALUE), array(NOTHING)),
    "an array with other names": Value(ARRAY, document(integer(1).named("a"), integer(2).named("a"))),
    "an array with a name that is no UTF-8": Value(ARRAY, document(integer(1).named(LATIN1))),
    "100 levels of documents": nested(100, integer(1), _in_object),
    "100 levels of arrays": nested(100, integer(1), array),
    "as many levels as there may be": nested(MOST_LEVELS, integer(1), _in_object),
    "a string of 600 bytes": string(b"x" * 600),
    "a large document": embedded(*(integer(i).named(str(i)) for i in range(400))),
}
"""What it is -> the value."""

# --- strategies

_BYTES: Final = st.one_of(
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=6),
    st.sampled_from((b"", b"a", b"b", LATIN1, b"a\0b", b"caf\xe8", b"a|b\\")),
)
_NAMES: Final = st.one_of(
    st.sampled_from((b"a", b"b", b"c")), _BYTES.map(lambda raw: raw.replace(b"\0", b"_")), st.just(LATIN1)
)
_NUMBERS: Final = st.one_of(
    st.sampled_from((0, 1, -1, 2, 2**31, 2**53, 2**53 + 1, 2**63, 10**20, 2**100)),
    st.integers(-(2**63), 2**63 - 1),
)
_DECIMALS: Final = st.one_of(
    st.binary(min_size=16, max_size=16).map(lambda raw: Value(DECIMAL, raw)),
    st.builds(
        lambda digits, exponent: decimal(f"{digits}E{exponent}"),
        st.integers(-(10**33), 10**33) | st.sampled_from((0, 1, 10, 5, 25)),
        st.integers(-6143, 6111) | st.integers(-3, 3),
    ),
)


def _as_int(number: int) -> Value:
    return integer(number) if -(2**31) <= number < 2**31 else double(float(number))


def _as_long(number: int) -> Value:
    return long(number) if -(2**63) <= number < 2**63 else decimal(str(number))


SCALARS: Final[st.SearchStrategy[Value]] = st.one_of(
    st.sampled_from([value for name, value in ODD.items() if "levels" not in name]),
    st.floats().map(double),
    _NUMBERS.map(float).map(double),
    _NUMBERS.map(_as_int),
    _NUMBERS.map(_as_long),
    _DECIMALS,
    _BYTES.map(string),
    _BYTES.map(symbol),
    _BYTES.map(code),
    st.builds(binary, st.sampled_from((0, 1, 2, 3, 4, 5, 6, 9, 0x80, 0xFF)), st.binary(max_size=17)),
    st.binary(min_size=12, max_size=12).map(oid),
    st.booleans().map(boolean),
    st.integers(-(2**63), 2**63 - 1).map(date),
    # Of zero, a server makes the present time.
    st.builds(timestamp, st.integers(1, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.builds(
        regex,
        _BYTES.map(lambda raw: raw.replace(b"\0", b"_")),
        st.sampled_from((b"", b"i", b"ix", b"xi", b"z", b"\xff")),
    ),
    st.builds(pointer, _BYTES, st.binary(min_size=12, max_size=12)),
    st.sampled_from((NOTHING, UNDEFINED_VALUE, LEAST, GREATEST)),
)


def _grown(inner: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    elements = st.lists(st.builds(lambda name, value: value.named(name), _NAMES, inner), max_size=4)
    return st.one_of(
        st.lists(inner, max_size=4).map(lambda values: array(*values)),
        elements.map(lambda some: embedded(*some)),
        st.builds(lambda raw, scope: scoped(raw, *scope), _BYTES, elements),
        st.builds(nested, st.integers(1, 60), inner, st.sampled_from((array, _in_object))),
    )


def values() -> st.SearchStrategy[Value]:
    """Any value that a server stores in a field."""
    return SCALARS | st.recursive(SCALARS, _grown, max_leaves=6)


def keys() -> st.SearchStrategy[Value]:
    """Any value that a server takes for an `_id`: none of the types that it refuses, no `$` in names."""
    refused = (ARRAY, REGEX, UNDEFINED)
    return values().filter(lambda value: value.kind not in refused and b"$" not in value.payload)


def documents(**fields: st.SearchStrategy[Value]) -> st.SearchStrategy[bytes]:
    """Documents with an `_id` (a short string, or as `_id=` says), these fields and any others."""
    named: dict[str, Any] = {"_id": st.text("abcdef", min_size=1, max_size=4).map(string), **fields}
    others = st.lists(st.builds(lambda name, value: value.named(b"_" + name), _NAMES, values()), max_size=4)
    return st.builds(
        lambda own, more: document(*(value.named(name) for name, value in own.items()), *more),
        st.fixed_dictionaries(named),
        others,
    )
