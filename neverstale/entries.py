"""Entries: what Redis holds for one document, a fixed header and the final JSON body.

The header is ASCII, so that the scripts and a person at `redis-cli` can read it. The scripts under
`neverstale/scripts/` write it and this module reads it; both follow this table (offsets in bytes):

| offset | bytes | field                                                                                |
|--------|-------|--------------------------------------------------------------------------------------|
| 0      | 1     | state: `L` lease only, `D` data, `N` known absent, `S` stale                         |
| 1      | 1     | touched: `1` if it was read since its last fill                                      |
| 2      | 1     | body: `D` a document, `N` an absence, `-` none (under `S` the old body stays)        |
| 3      | 16    | version: `D`, `N` read at; `S` stale since; `L` zeros                                |
| 19     | 16    | body version: the version at which the body was read, zeros if there is none         |
| 35     | 16    | lease: the live token, zeros if there is none                                        |
| 51     | 13    | lease end: Redis's clock, milliseconds, decimal                                      |
| 64     | 16    | digest of the entry's own key                                                        |
| 80     | 16    | ETag of the body, zeros if there is none                                             |
| 96     | …     | the body                                                                             |
"""

from binascii import unhexlify
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Final

from neverstale.versions import Version

HEADER_BYTES: Final = 96
NO_ETAG: Final = b"0" * 16


class State(Enum):
    LEASE = b"L"
    DATA = b"D"
    ABSENT = b"N"
    STALE = b"S"


class CorruptEntry(Exception):
    """Bytes under an entry's key that are not this key's entry; the error path deletes the key."""


@dataclass(frozen=True, slots=True)
class Entry:
    state: State
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
        return self.state is State.DATA or self.state is State.ABSENT


def etag_of(body: bytes) -> bytes:
    """16 hex digits, stable for equal bodies across processes, restarts and refills."""
    return blake2b(body, digest_size=8).hexdigest().encode("ascii")


def decode(raw: bytes, digest: bytes) -> Entry:
    """Read an entry; `CorruptEntry` if its header is malformed or speaks of another key."""
    if raw[64:80] != digest or len(raw) < HEADER_BYTES:
        raise CorruptEntry("the entry does not belong to its key")
    body_kind = raw[2:3]
    try:
        versions = unhexlify(raw[3:35])
        return Entry(
            state=State(raw[:1]),
            touched=raw[1:2] == b"1",
            version=int.from_bytes(versions[:8], "big"),
            body_version=int.from_bytes(versions[8:], "big"),
            etag=raw[80:96],
            body=raw[HEADER_BYTES:] if body_kind == b"D" else None,
            body_is_absence=body_kind == b"N",
        )
    except ValueError as error:
        raise CorruptEntry(f"malformed header: {error}") from None


# What a hit needs of the bytes, without decoding the rest.


def is_current(raw: bytes, digest: bytes, floor: bytes) -> bool:
    """Whether these bytes are an answer: this key's entry, `D` or `N`, and not below the floor (16 hex digits)."""
    return raw[:1] in b"DN" and raw[64:80] == digest and raw[3:19] >= floor and len(raw) >= HEADER_BYTES


def is_touched(raw: bytes) -> bool:
    return raw[1:2] == b"1"


def facts_of_hit(raw: bytes) -> tuple[bytes, bytes, bytes | None]:
    """ETag, version (both 16 hex digits) and body (`None`: an absence) of a current entry."""
    return raw[80:96], raw[3:19], raw[HEADER_BYTES:] if raw[:1] == b"D" else None
