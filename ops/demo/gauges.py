"""Numbers that the demo's processes show each other while they run: 64-bit integers in a small shared file."""

import mmap
import struct
from pathlib import Path
from typing import Final

NAMES: Final = ("now", "opened", "documents", "requests", "hits", "local_hits", "server_errors", "shed", "broken")
"""`now`: the flight at which the replay stands; the rest is counted by the readers. `opened`: screens that were read
once before anything was written."""
_NUMBER = struct.Struct("<q")


class Gauges:
    """One process writes a number, others read it. An aligned 64-bit store is never seen half done."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), len(NAMES) * _NUMBER.size)

    @classmethod
    def create(cls, path: Path) -> "Gauges":
        path.write_bytes(bytes(len(NAMES) * _NUMBER.size))
        return cls(path)

    def __getitem__(self, name: str) -> int:
        number: int = _NUMBER.unpack_from(self._map, NAMES.index(name) * _NUMBER.size)[0]
        return number

    def __setitem__(self, name: str, number: int) -> None:
        _NUMBER.pack_into(self._map, NAMES.index(name) * _NUMBER.size, number)
