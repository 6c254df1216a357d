"""Writes at a fixed pace, whatever the answers take (an open loop), and notes when each was acknowledged.

    python -m benchmarks.paced_writer URI DATABASE COLLECTION FIRST COUNT PER_SECOND FILE

Each of `COUNT` documents from number `FIRST` is updated once, with write concern majority.
"""

import asyncio
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from pymongo import AsyncMongoClient

_RECORD = struct.Struct("<qdd")


class Written(NamedTuple):
    number: int
    sent: float
    acknowledged: float
    """`time.monotonic()`, as is `sent`."""


def read(path: Path) -> Iterator[Written]:
    return map(Written._make, _RECORD.iter_unpack(path.read_bytes()))


async def write(collection: Any, first: int, count: int, per_second: float) -> list[Written]:
    written: list[Written] = []

    async def one(number: int) -> None:
        sent = time.monotonic()
        await collection.update_one({"_id": number}, {"$inc": {"rev": 1}})
        written.append(Written(number, sent, time.monotonic()))

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for place in range(count):
            if (early := started + place / per_second - time.monotonic()) > 0:
                await asyncio.sleep(early)
            group.create_task(one(first + place))
    return written


async def main(uri: str, database: str, collection: str, first: str, count: str, per_second: str, file: str) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri, w="majority") as client:
        await client.admin.command("ping")
        written = await write(client[database][collection], int(first), int(count), float(per_second))
    Path(file).write_bytes(b"".join(_RECORD.pack(*each) for each in written))  # noqa: ASYNC240 (all is done)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
