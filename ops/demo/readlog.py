"""The readers' notes on disk: one fixed-size record for each key that was answered."""

import struct
from collections.abc import Iterator
from pathlib import Path

from neverstale.ops.truth.oracle import Read

_RECORD = struct.Struct("<IIIidddQ")
_CHUNK_RECORDS = 4096


def pack(read: Read) -> bytes:
    return _RECORD.pack(*read)


def reads(path: Path) -> Iterator[Read]:
    """All that were noted, in the order of noting; a record cut short by a kill is left out."""
    with path.open("rb") as file:
        while chunk := file.read(_RECORD.size * _CHUNK_RECORDS):
            whole = len(chunk) - len(chunk) % _RECORD.size
            yield from map(Read._make, _RECORD.iter_unpack(memoryview(chunk)[:whole]))
