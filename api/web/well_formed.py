"""Whether bytes that a caller sent are one BSON document, with no more levels than one that MongoDB stores.

Raw BSON that is put into a command must not be able to end before it says so: what follows would become part of the
command. So every length is compared with what is there, down to the last level. Nothing is decoded, nothing recurs.
Source: https://bsonspec.org/spec.html
"""

from typing import Final

MAX_LEVELS: Final = 182
"""A document that MongoDB stores has at most 180 levels (`kBSONMaxUserStorageDepth`), so a value in it 179, and it
lies in an array in a document here. A command may have 200, of which a page's filter needs 11 around the value."""

_FIXED: Final = {
    0x01: 8,  # double
    0x06: 0,  # undefined
    0x07: 12,  # ObjectId
    0x08: 1,  # bool
    0x09: 8,  # date
    0x0A: 0,  # null
    0x10: 4,  # int
    0x11: 8,  # timestamp
    0x12: 8,  # long
    0x13: 16,  # Decimal128
    0x7F: 0,  # MaxKey
    0xFF: 0,  # MinKey
}
_TEXT: Final = frozenset((0x02, 0x0D, 0x0E))  # string, JavaScript, symbol
_DOCUMENT: Final = frozenset((0x03, 0x04))
_BINARY: Final = 0x05
_REGEX: Final = 0x0B
_DB_POINTER: Final = 0x0C
_CODE_WITH_SCOPE: Final = 0x0F
_LEAST: Final = 5
"""Bytes of an empty document."""


class IllFormed(ValueError):
    """These bytes are no document, or have too many levels."""


def check_document(data: bytes, max_levels: int = MAX_LEVELS) -> None:
    """Raises `IllFormed` unless `data` is exactly one document of at most so many levels, itself included."""
    if len(data) < _LEAST or _length(data, 0, len(data)) != len(data):
        raise IllFormed
    ends = [len(data) - 1]
    at = 4
    while ends:
        end = ends[-1]
        if at == end:
            if data[at]:
                raise IllFormed
            at += 1
            ends.pop()
            continue
        kind = data[at]
        at = _behind_name(data, at + 1, end)
        if kind in _DOCUMENT:
            inner = at + _length(data, at, end)
            if inner - at < _LEAST or len(ends) >= max_levels:
                raise IllFormed
            ends.append(inner - 1)
            at += 4
        elif kind == _CODE_WITH_SCOPE:
            whole = at + _length(data, at, end)
            scope = _behind_text(data, at + 4, whole)
            if whole - scope < _LEAST or scope + _length(data, scope, whole) != whole or len(ends) >= max_levels:
                raise IllFormed
            ends.append(whole - 1)
            at = scope + 4
        else:
            at = _behind_value(data, kind, at, end)
            if at > end:
                raise IllFormed


def _behind_value(data: bytes, kind: int, at: int, end: int) -> int:
    if (size := _FIXED.get(kind)) is not None:
        if kind == 0x08 and data[at] > 1:
            raise IllFormed
        return at + size
    if kind in _TEXT:
        return _behind_text(data, at, end)
    if kind == _BINARY:
        return _behind_binary(data, at, end)
    if kind == _REGEX:
        return _behind_name(data, _behind_name(data, at, end), end)
    if kind == _DB_POINTER:
        return _behind_text(data, at, end) + 12
    raise IllFormed


def _behind_text(data: bytes, at: int, end: int) -> int:
    size = _number(data, at, end)
    behind = at + 4 + size
    if size < 1 or behind > end or data[behind - 1]:
        raise IllFormed
    return behind


def _behind_binary(data: bytes, at: int, end: int) -> int:
    size = _number(data, at, end)
    if size < 0:
        raise IllFormed  # MongoDB does not look at the second length of subtype 2
    return at + 5 + size


def _behind_name(data: bytes, at: int, end: int) -> int:
    found = data.find(b"\0", at, end)
    if found < 0:
        raise IllFormed
    return found + 1


def _length(data: bytes, at: int, end: int) -> int:
    """Of a document, which must end before `end`."""
    size = _number(data, at, end)
    if size < _LEAST or at + size > end:
        raise IllFormed
    return size


def _number(data: bytes, at: int, end: int) -> int:
    if at + 4 > end:
        raise IllFormed
    return int.from_bytes(data[at : at + 4], "little", signed=True)
