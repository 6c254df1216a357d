"""The bare change stream, for comparison: a plain `watch()` that notes when it was told of each change.

    python -m benchmarks.bare_stream URI DATABASE COLLECTION FILE

Nothing can be told earlier than this by any pipeline that reads the change stream. Ends at SIGTERM.
"""

import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from pymongo import MongoClient

_RECORD = struct.Struct("<qd")
OPENED = -1
"""Stands for the opened stream, so that whoever started us knows."""


class Told(NamedTuple):
    number: int
    at: float
    """`time.monotonic()`."""


class _Stopped(Exception):
    pass


def read(path: Path) -> Iterator[Told]:
    data = path.read_bytes()
    whole = len(data) - len(data) % _RECORD.size
    return map(Told._make, _RECORD.iter_unpack(memoryview(data)[:whole]))


def main(uri: str, database: str, collection: str, file: str) -> None:
    def stop(*_: object) -> NoReturn:
        raise _Stopped

    signal.signal(signal.SIGTERM, stop)
    with (
        Path(file).open("wb") as notes,
        suppress(_Stopped),
        MongoClient[dict[str, Any]](uri) as client,
        client[database][collection].watch() as changes,
    ):
        notes.write(_RECORD.pack(OPENED, time.monotonic()))
        notes.flush()
        for change in changes:
            now = time.monotonic()
            notes.write(_RECORD.pack(change["documentKey"]["_id"], now))


if __name__ == "__main__":
    main(*sys.argv[1:])
