"""BSON as it lies in MongoDB, decoded without losing anything and without ever failing.

A server stores more than a driver holds: strings that are no UTF-8, UUIDs of 36 bytes, two fields of one name. The
driver refuses some of it, drops or reorders some without a word, and takes whatever has `$ref` and `$id` for a
`DBRef`. So one odd document could end whoever reads it, or be cached as something that it is not.

`decode` takes the driver's C decoder for what that decodes exactly, which is almost everything, and rules of our own
for the rest. Whether the driver was exact is seen by its own encoder: a document that encodes to as many bytes as it
was decoded from has lost nothing.

| in BSON                                       | decoded as                                                     |
|-----------------------------------------------|----------------------------------------------------------------|
| embedded document                             | `dict`, in the order of its fields; never a `DBRef`            |
| names twice in one document                   | `RawObject`: the first one counts, as in MongoDB's own queries |
| a name that is no UTF-8                       | `RawObject`: U+FFFD stands for what is none                    |
| string, code, regular expression: no UTF-8    | `RawValue`                                                     |
| regular expression with options Python lacks, or in another order | `RawValue`                                 |
| DBPointer (of old drivers)                    | `RawValue`                                                     |
| binary of subtype 4 that is not 16 bytes long | `Binary`                                                       |
| date before year 1 or after 9999              | `DatetimeMS`                                                   |
| undefined                                     | `RawValue`: a value of its own inside other values             |
| symbol                                        | `str`, which it is equal to                                    |
| everything else                               | as the driver decodes it                                       |

Source: the BSON specification, version 1.1 (https://bsonspec.org/spec.html).
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from neverstale.bson.codes import (
    ARRAY,
    BINARY,
    BOOL,
    CODE,
    DATE,
    DBPOINTER,
    DECIMAL,
    DOUBLE,
    INT,
    LONG,
    MAXKEY,
    MINKEY,
    NULL,
    OBJECT,
    OID,
    REGEX,
    SCOPED,
    STRING,
    SYMBOL,
    TIMESTAMP,
    UNDEFINED,
)

CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    document_class=dict,
    tz_aware=True,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    uuid_representation=4,  # STANDARD: binary subtype 4 is a UUID
)
"""How the driver decodes what it decodes exactly, and encodes what it can encode."""

_LENGTH: Final = struct.Struct("<i")
_FIXED: Final = {
    DOUBLE: 8,
    UNDEFINED: 0,
    OID: 12,
    BOOL: 1,
    DATE: 8,
    NULL: 0,
    INT: 4,
    TIMESTAMP: 8,
    LONG: 8,
    DECIMAL: 16,
    MINKEY: 0,
    MAXKEY: 0,
}
_COUNTED: Final = {STRING: 4, CODE: 4, SYMBOL: 4, BINARY: 5, DBPOINTER: 16, OBJECT: 0, ARRAY: 0, SCOPED: 0}
"""Types that begin with a length, and how many bytes more they have than it says."""
_REF: Final = b"$ref\0"
_UUID: Final = 4
_CANNOT: Final = (BSONError, ValueError, OverflowError, TypeError, RecursionError)
"""What the driver raises for what it cannot hold."""


@dataclass(frozen=True, slots=True)
class RawValue:
    """A value that no Python type holds exactly, as it lies in BSON."""

    kind: int
    """The type's byte."""
    payload: bytes

    @property
    def text(self) -> str:
        """What a person may read of it: U+FFFD stands for bytes that are no UTF-8."""
        match self.kind:
            case 0x02 | 0x0D:
                return _replaced(self.payload[4:-1])
            case 0x0B:
                return _replaced(self.payload[: self.payload.index(0)])
            case 0x0C:
                return _replaced(self.payload[4:-13])
            case 0x0F:
                return _replaced(self.payload[8 : 7 + _LENGTH.unpack_from(self.payload, 4)[0]])
        return self.payload.hex()

    @property
    def options(self) -> str:
        """The options of a regular expression."""
        return _replaced(self.payload[self.payload.index(0) + 1 : -1]) if self.kind == REGEX else ""

    @property
    def scope(self) -> dict[str, Any]:
        """The scope of a code that has one."""
        return _document(self.payload[8 + _LENGTH.unpack_from(self.payload, 4)[0] :])


class RawObject(dict[str, Any]):
    """An embedded document that a dictionary does not hold exactly; `raw` is its BSON."""

    __slots__ = ("raw",)

    def __init__(self, fields: Mapping[str, Any], raw: bytes) -> None:
        super().__init__(fields)
        self.raw = raw


def decode(raw: bytes) -> dict[str, Any]:
    """A document by the table above, for every document that a server stores.

    Raises:
        ValueError: the bytes are no BSON document.
    """
    if (document := by_driver(raw)) is not None:
        return document
    try:
        return _document(raw)
    except (RecursionError, IndexError, struct.error):
        raise ValueError("no BSON document that a server stores") from None


def by_driver(raw: bytes, doubtful: str | None = None) -> dict[str, Any] | None:
    """A document as the driver decodes it; `None` if that would not be exact.

    `doubtful`: the name of the first field, an object, if only that may hold something odd.
    """
    if _REF in raw:
        return None
    try:
        document = bson.decode(raw, CODEC)
        if doubtful is None:
            is_exact = bson.encode(document, codec_options=CODEC) == raw
        else:
            is_exact = raw.startswith(bson.encode(document[doubtful], codec_options=CODEC), 6 + len(doubtful))
        return document if is_exact else None
    except _CANNOT:
        return None


def element(name: bytes, value: Any) -> bytes:
    """One element of a document: the opposite of `decode`, for every value that it returns."""
    match value:
        case RawValue():
            return bytes((value.kind,)) + name + b"\0" + value.payload
        case RawObject():
            return b"\x03" + name + b"\0" + value.raw
        case Mapping():
            return b"\x03" + name + b"\0" + encode(value)
        case list() | tuple():
            return b"\x04" + name + b"\0" + _joined([element(b"%d" % i, item) for i, item in enumerate(value)])
    alone = bson.encode({"": value}, codec_options=CODEC)
    return alone[4:5] + name + alone[5:-1]


def encode(document: Mapping[str, Any]) -> bytes:
    """A document with whatever `decode` returns in it, as BSON."""
    if isinstance(document, RawObject):
        return document.raw
    return _joined([element(name.encode(), value) for name, value in document.items()])


def under(name: str, value: Any) -> RawBSONDocument:
    """`{name: value}`, ready to be a part of a filter or a command."""
    return RawBSONDocument(_joined([element(name.encode(), value)]))


def _joined(elements: list[bytes]) -> bytes:
    body = b"".join(elements)
    return _LENGTH.pack(len(body) + 5) + body + b"\0"


def _replaced(text: bytes) -> str:
    return text.decode("utf-8", "replace")


# --- our own rules


def _document(raw: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    exact = True
    for kind, name, payload in elements(raw):
        try:
            spelled = name.decode()
        except UnicodeDecodeError:
            spelled, exact = _replaced(name), False
        if spelled in fields:
            exact = False
        else:
            fields[spelled] = _value(kind, payload)
    return fields if exact else RawObject(fields, raw)


def elements(raw: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Type, name and payload of each element of a document or array."""
    at, end = 4, len(raw) - 1
    if end < at or _LENGTH.unpack_from(raw)[0] != len(raw):
        raise ValueError("no BSON document")
    while at < end:
        kind = raw[at]
        stop = raw.index(0, at + 1)
        start = stop + 1
        name, at = raw[at + 1 : stop], start + _size(kind, raw, start)
        yield kind, name, raw[start:at]


def _size(kind: int, raw: bytes, start: int) -> int:
    if (size := _FIXED.get(kind)) is not None:
        return size
    if (more := _COUNTED.get(kind)) is not None:
        return int(_LENGTH.unpack_from(raw, start)[0]) + more
    if kind == REGEX:
        return raw.index(0, raw.index(0, start) + 1) + 1 - start
    raise ValueError(f"no type of BSON: {kind:#04x}")


def _value(kind: int, payload: bytes) -> Any:
    match kind:
        case 0x02 | 0x0E:
            return _string(payload)
        case 0x03:
            return _document(payload)
        case 0x04:
            return [_value(kind, item) for kind, _, item in elements(payload)]
        case 0x05 if payload[4] == _UUID and len(payload) != 21:
            return Binary(payload[5:], _UUID)
        case 0x08:
            return payload != b"\0"
        case 0x06 | 0x0C:
            return RawValue(kind, payload)
        case 0x0F:
            return _scoped(payload)
    return _exactly(kind, payload)


def _string(payload: bytes) -> str | RawValue:
    try:
        return payload[4:-1].decode()
    except UnicodeDecodeError:
        return RawValue(STRING, payload)  # a symbol is equal to the string of the same bytes


def _scoped(payload: bytes) -> Code | RawValue:
    end = 8 + _LENGTH.unpack_from(payload, 4)[0]
    try:
        value = Code(payload[8 : end - 1].decode(), _document(payload[end:]))
        exact = element(b"", value)[2:] == payload
    except _CANNOT:
        exact = False
    return value if exact else RawValue(SCOPED, payload)


def _exactly(kind: int, payload: bytes) -> Any:
    """What the driver makes of a value, unless it cannot hold it."""
    raw = _joined([bytes((kind,)) + b"\0" + payload])
    try:
        value = bson.decode(raw, CODEC)[""]
        exact = bson.encode({"": value}, codec_options=CODEC) == raw
    except _CANNOT:
        exact = False
    return value if exact else RawValue(kind, payload)
