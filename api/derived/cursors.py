"""Cursors: where a page begins, as text that callers hand back and need not understand.

    base64url( way, 1 byte | what it belongs to, 6 | number of the page, 2 | BSON of the position | signature, 8 )

A cursor names the sort key of the last item before the page (keyset pagination), so pages neither repeat nor leave
out a document because others were inserted or deleted between them. It belongs to one group of one list as it is
declared now; a new declaration makes old cursors wrong, which is said, not guessed at.

It is bounded, and with `api.cursor_secret` signed. Without a secret anybody can sign, so a cursor may say nothing
that a caller must not ask for: it holds one value for each sort field, of a size and depth that MongoDB takes, and
`neverstale.derived.lists.positions` makes of each value a range of that field, never an operator (docs/adr/0029).
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final

from neverstale.api.web.well_formed import IllFormed, check_document
from neverstale.bson import values as bson_values

FORMAT: Final = 2
"""The first byte of a cursor that leads onward, behind a position; the next three are the other ways."""
MAX_CHARACTERS: Final = 24 << 10
"""A request head may have 64 KB (`clients.head_bytes`)."""
_LAST_NUMBER: Final = 0xFFFF
_SIGNATURE_BYTES: Final = 8
_OWNER_BYTES: Final = 6
_OWNER: Final = slice(1, 1 + _OWNER_BYTES)
_NUMBER: Final = slice(7, 9)
_POSITION: Final = slice(9, -_SIGNATURE_BYTES)
_LEAST: Final = 9 + 5 + _SIGNATURE_BYTES


class WrongCursor(ValueError):
    """Says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Cursor:
    number: int
    """The number of the page; the first one, 0, has no cursor."""
    position: tuple[Any, ...]
    """Sort key of the last item before it; or, if it leads back, of the first one behind it."""
    back: bool = False
    """The page ends there, and shows what is before."""
    inclusive: bool = False
    """What has this very sort key is on the page, too."""

    @property
    def turned(self) -> "Cursor":
        """Of the page on the other side of the same place, so that no document is on both or on none."""
        number = self.number + 1 if self.back else max(self.number - 1, 1)
        return Cursor(number, self.position, not self.back, not self.inclusive)

    def onward(self, position: tuple[Any, ...]) -> "Cursor":
        """Of the page behind this one, whose last item has this sort key; before it, if this one leads back."""
        number = max(self.number - 1, 1) if self.back else self.number + 1
        return Cursor(number, position, self.back)


def owner(digest: str, group: str, secret: bytes = b"") -> bytes:
    """What a cursor belongs to: a declaration's digest and a group of it. Its end is the key of the signature."""
    person = b"cursor %d" % FORMAT
    return blake2b(f"{digest} {group}".encode(), digest_size=32, key=secret, person=person).digest()


def encode(cursor: Cursor, owner: bytes) -> str | None:
    """`None`: the position is larger than a cursor may be."""
    number = min(cursor.number, _LAST_NUMBER).to_bytes(2, "big")
    position = bson_values.encode({"": list(cursor.position)})
    way = FORMAT + cursor.back + 2 * cursor.inclusive
    data = bytes((way,)) + owner[:_OWNER_BYTES] + number + position
    text = urlsafe_b64encode(data + _signature(data, owner)).rstrip(b"=").decode()
    return text if len(text) <= MAX_CHARACTERS else None


def decode(text: str, owner: bytes, fields: int) -> Cursor:
    """The cursor that `encode` made for this owner, whose list is sorted by so many fields. Raises `WrongCursor`."""
    if len(text) > MAX_CHARACTERS:
        raise WrongCursor("is longer than any cursor")
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise WrongCursor("is not a cursor") from None
    if len(data) < _LEAST:
        raise WrongCursor("is not a cursor, or was cut off")
    way = data[0] - FORMAT
    if not 0 <= way < 4:
        raise WrongCursor("is not a cursor of this release; begin again without it")
    if data[_OWNER] != owner[:_OWNER_BYTES]:
        raise WrongCursor("belongs to another list or group, or the list was declared again; begin again without it")
    if not compare_digest(_signature(data[:-_SIGNATURE_BYTES], owner), data[-_SIGNATURE_BYTES:]):
        raise WrongCursor("is not a cursor, or was cut off")
    number = max(int.from_bytes(data[_NUMBER], "big"), 1)
    return Cursor(number, _position(data[_POSITION], fields), back=bool(way & 1), inclusive=bool(way & 2))


def _signature(data: bytes, owner: bytes) -> bytes:
    return blake2b(data, digest_size=_SIGNATURE_BYTES, key=owner[_OWNER_BYTES:]).digest()


def _position(data: bytes, fields: int) -> tuple[Any, ...]:
    try:
        check_document(data)
        position = bson_values.decode(data)[""]
    except (IllFormed, KeyError, ValueError):
        raise WrongCursor("is not a cursor") from None
    if not isinstance(position, list) or len(position) != fields:
        raise WrongCursor("is not a cursor of this list")
    return tuple(position)
