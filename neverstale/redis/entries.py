"""Entries: what Redis holds for one document, a fixed header and the final JSON body.

The header is ASCII, so that the scripts and a person at `redis-cli` can read it. The scripts under
`neverstale/redis/scripts/` write it and this module reads it; both follow this table (offsets in bytes):

| offset | bytes | field                                                                                |
|--------|-------|--------------------------------------------------------------------------------------|
| 0      | 1     | state: `L` lease only, `D` data, `N` known absent, `S` stale                         |
| 1      | 1     | touched: `1` if it was read since its last fill                                      |
| 2      | 1     | body: `D` a document, `N` an absence, `-` none (under `S` the old body stays)        |
| 3      | 16    | version: `D`, `N` read at; `S` stale since; `L` zeros                                |
| 19     | 16    | body version: the version at which the body was read, zeros if there is none         |
| 35     | 16    | lease: the live token, zeros if there is none                                        |
| 51     | 13    | lease end: Redis's clock, milliseconds, decimal                                      |
| 64     | 10    | digest of the entry's own key                                                        |
| 74     | 6     | digest of what the body was declared to show, see `Resource.shows`                |
| 80     | 16    | ETag of the body, zeros if there is none                                             |
| 96     | …     | the body                                                                             |
"""

import re
from binascii import unhexlify
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Final

from neverstale.keys import of_same_key
from neverstale.versions import LATEST, Version

HEADER_BYTES: Final = 96
NO_ETAG: Final = b"0" * 16


class EntryState(Enum):
    LEASE = b"L"
    DATA = b"D"
    ABSENT = b"N"
    STALE = b"S"


class DeclaredOtherwise(Exception):
    """This key's entry, but its body shows something else than is declared here: for us it is missing."""


class CorruptEntry(Exception):
    """Bytes under an entry's key that are not this key's entry; the error path deletes the key."""


_REST: Final = b"[0-9a-f]{48}[0-9]{13}[0-9a-f]{32}"
_HEADER: Final = re.compile(rb"(?:D[01]D|N[01]N|S[01][DN-]|L[01]-)" + _REST)
"""What a header is made of: nothing of it could begin another line of a response's head."""
_DATA: Final = frozenset((b"D0D", b"D1D"))
_ABSENCE: Final = frozenset((b"N0N", b"N1N"))
_HEX_AS_ZEROS: Final = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
_ALL_HEX: Final = b"0" * (HEADER_BYTES - 3)
_DIGITS: Final = slice(51, 64)
_OPENS: Final = b"{"[0]
_CLOSES: Final = b"}"[0]


@dataclass(frozen=True, slots=True)
class Entry:
    state: EntryState
    touched: bool
    version: Version
    body_version: Version
    etag: bytes
    body: bytes | None
    """The JSON text; `None` for an absence, a bare lease, or a stale entry that never held a document."""
    body_is_absence: bool

    @property
    def fresh(self) -> bool:
        """Holds a current answer, as far as the entry itself knows (the floor may still void it)."""
        return self.state is EntryState.DATA or self.state is EntryState.ABSENT


def etag_of(body: bytes) -> bytes:
    """16 hex digits, stable for equal bodies across processes, restarts and refills."""
    return blake2b(body, digest_size=8).hexdigest().encode("ascii")


def decode(raw: bytes, digest: bytes, latest: Version = LATEST) -> Entry:
    """Read an entry; `CorruptEntry` if it is malformed, or speaks of another key or of a version after `latest`;
    `DeclaredOtherwise` if it shows what other processes declare."""
    if not of_same_key(raw[64:80], digest) or len(raw) < HEADER_BYTES:
        raise CorruptEntry("the entry does not belong to its key")
    if _HEADER.match(raw) is None:
        raise CorruptEntry("malformed header")
    if raw[64:80] != digest:
        raise DeclaredOtherwise
    versions = unhexlify(raw[3:35])
    version, body_version = int.from_bytes(versions[:8], "big"), int.from_bytes(versions[8:], "big")
    if max(version, body_version) > latest:
        raise CorruptEntry("its version lies ahead of MongoDB's clock")
    body_kind = raw[2:3]
    if body_kind == b"D" and not _is_object(raw):
        raise CorruptEntry("its body is no JSON object, or not all of one")
    return Entry(
        state=EntryState(raw[:1]),
        touched=raw[1:2] == b"1",
        version=version,
        body_version=body_version,
        etag=raw[80:96],
        body=raw[HEADER_BYTES:] if body_kind == b"D" else None,
        body_is_absence=body_kind == b"N",
    )


def _is_object(raw: bytes) -> bool:
    """As far as its ends tell: to look at all of it would cost more than the rest of a hit."""
    return raw[96:97] == b"{" and raw[-1:] == b"}"


# What a hit needs of the bytes, without decoding the rest.


def is_current(raw: bytes, digest: bytes, floor: bytes, latest: bytes) -> bool:
    """Whether these bytes are an answer: this key's entry, sound, `D` or `N`, not below the floor and not after the
    latest version that can be true (both 16 hex digits)."""
    # The same as `_HEADER` asks for, in two thirds of the time.
    return (
        floor <= raw[3:19] <= latest
        and raw[64:80] == digest
        and raw[3:HEADER_BYTES].translate(_HEX_AS_ZEROS) == _ALL_HEX
        and raw[_DIGITS].isdigit()
        and ((raw[:3] in _DATA and raw[-1] == _CLOSES and raw[HEADER_BYTES] == _OPENS) or raw[:3] in _ABSENCE)
    )


def is_touched(raw: bytes) -> bool:
    return raw[1:2] == b"1"


def facts_of_hit(raw: bytes) -> tuple[bytes, bytes, bytes | None]:
    """ETag, version (both 16 hex digits) and body (`None`: an absence) of a current entry."""
    return raw[80:96], raw[3:19], raw[HEADER_BYTES:] if raw[:1] == b"D" else None
