"""Cursors: where a page begins, as text that callers hand back and need not understand.

    base64url( format, 1 byte | what it belongs to, 6 | number of the page, 2 | BSON of the position | CRC-32, 4 )

A cursor names the sort key of the last item before the page (keyset pagination), so pages neither repeat nor leave
out a document because others were inserted or deleted between them. It belongs to one group of one list as it is
declared now; a new declaration makes old cursors wrong, which is said, not guessed at.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final
from zlib import crc32

import bson
from bson.errors import BSONError

from neverstale.bson_values import CODEC
from neverstale.derived.positions import can_be_compared

FORMAT: Final = 1
MAX_CHARACTERS: Final = 8192
_LAST_NUMBER: Final = 0xFFFF
_OWNER: Final = slice(1, 7)
_NUMBER: Final = slice(7, 9)
_POSITION: Final = slice(9, -4)


class WrongCursor(ValueError):
    """Says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Cursor:
    number: int
    """Of the page; the first one, 0, has no cursor."""
    position: tuple[Any, ...]
    """Sort key of the last item before it."""


def owner(digest: str, group: str) -> bytes:
    """What a cursor belongs to: a declaration's digest and a group of it."""
    return blake2b(f"{digest} {group}".encode(), digest_size=6).digest()


def encode(cursor: Cursor, owner: bytes) -> str:
    number = min(cursor.number, _LAST_NUMBER).to_bytes(2, "big")
    position = bson.encode({"": list(cursor.position)}, codec_options=CODEC)
    data = bytes((FORMAT,)) + owner + number + position
    return urlsafe_b64encode(data + crc32(data).to_bytes(4, "big")).rstrip(b"=").decode()


def decode(text: str, owner: bytes, fields: int) -> Cursor:
    """The cursor that `encode` made for this owner, whose list is sorted by so many fields. Raises `WrongCursor`."""
    if len(text) > MAX_CHARACTERS:
        raise WrongCursor("is longer than any cursor")
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise WrongCursor("is not a cursor") from None
    if len(data) < 14 or crc32(data[:-4]).to_bytes(4, "big") != data[-4:]:
        raise WrongCursor("is not a cursor, or was cut off")
    if data[0] != FORMAT:
        raise WrongCursor("was made by another release; begin again without it")
    if data[_OWNER] != owner:
        raise WrongCursor("belongs to another list or group, or the list was declared anew; begin again without it")
    return Cursor(max(int.from_bytes(data[_NUMBER], "big"), 1), _position(data[_POSITION], fields))


def _position(data: bytes, fields: int) -> tuple[Any, ...]:
    try:
        position = bson.decode(data, CODEC)[""]
    except (BSONError, KeyError, ValueError):
        raise WrongCursor("is not a cursor") from None
    if not isinstance(position, list) or len(position) != fields or not all(map(can_be_compared, position)):
        raise WrongCursor("is not a cursor of this list")
    return tuple(position)
