"""Readers of the board, in a process of their own: they ask the REST API and note every answer.

    python -m neverstale.ops.demo.readers URL FOLDER [--readers N] [--per-second N] [--seed N]

First they read the whole week once, screen by screen, so that all of it is cached and every change has something to
correct. Then most look at flights that leave about now, as people before a board do; some look anywhere, some ask for
many flights at once, some for airlines and airports, and some for flights that never were.
"""

import argparse
import asyncio
import random
import signal
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import nan
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote

import orjson
import uvloop

from neverstale.ops.demo.flights.board import week
from neverstale.ops.demo.gauges import Gauges
from neverstale.ops.demo.places import Places, places
from neverstale.ops.demo.readlog import pack
from neverstale.ops.http_client import Connection, HttpAnswer
from neverstale.ops.truth.oracle import ABSENT, NOBODY, Read

READERS: Final = 16
PER_SECOND: Final = 1000.0
TIMEOUT_SECONDS: Final = 10.0
RECONNECT_SECONDS: Final = 0.05
BOARD_LINES: Final = 20
"""Flights on one screen: what is asked for at once."""
NEAR: Final = 1500
"""Flights on either side of now that readers come back to."""
LOG, GAUGES = "reads.bin", "gauges"


class Choice:
    """Which key to read next. The nth flight from now is chosen with a weight of 1/n, Zipf's law."""

    def __init__(self, known: Places, seed: int) -> None:
        self._known = known
        self._random = random.Random(seed)
        self._weights = list(accumulate(1 / rank for rank in range(1, NEAR + 1)))

    def keys(self, now: int) -> range | list[int]:
        """One key, or a screen of the board."""
        dice = self._random.random()
        if dice < 0.05:
            first = min(now, self._known.flights - BOARD_LINES)
            return range(first, first + BOARD_LINES)
        if dice < 0.10:
            return [self._random.randrange(self._known.flights)]
        if dice < 0.15:
            return [self._random.randrange(self._known.flights, self._known.real)]
        if dice < 0.17:
            return [self._random.randrange(self._known.real, len(self._known.keys))]
        return [self._near(now)]

    def _near(self, now: int) -> int:
        distance = bisect_left(self._weights, self._random.random() * self._weights[-1])
        return (now + self._random.choice((distance, -distance))) % self._known.flights


@dataclass
class Notes:
    """Where all readers of this process note what they were told."""

    file: BinaryIO
    gauges: Gauges

    def count(self, name: str, by: int = 1) -> None:
        self.gauges[name] = self.gauges[name] + by

    def take(self, reads: Sequence[Read]) -> None:
        self.file.write(b"".join(map(pack, reads)))

    def count_documents(self, number: int, cache_status: str) -> None:
        self.count("documents", number)
        if cache_status.startswith("neverstale; hit"):
            self.count("hits", number)
            if "detail=l1" in cache_status:
                self.count("local_hits", number)


class BoardReader:
    """Asks again and again, one question at a time, over one connection.

    Between the beginnings of two questions there are `pause` seconds, unless an answer takes longer; none while the
    week is opened.
    """

    def __init__(
        self,
        number: int,
        url: str,
        known: Places,
        notes: Notes,
        choice: Choice,
        opening: Iterator[range],
        pause: float = 0.0,
    ) -> None:
        self._number = number
        self._url = url
        self._known = known
        self._numbers = known.numbers
        self._notes = notes
        self._choice = choice
        self._opening = opening
        self._pause = pause

    async def read_until(self, stop: asyncio.Event) -> None:
        connection: Connection | None = None
        while not stop.is_set():
            began = time.monotonic()
            try:
                if connection is None or not connection.usable:
                    connection = await Connection.open(self._url)
                opening = next(self._opening, None)
                await self._ask(connection, opening)
                if opening is None:
                    await asyncio.sleep(began + self._pause - time.monotonic())
            except OSError:
                self._notes.count("broken")
                await asyncio.sleep(RECONNECT_SECONDS)
        if connection is not None:
            connection.close()

    async def _ask(self, connection: Connection, opening: range | None) -> None:
        keys = opening or self._choice.keys(self._notes.gauges["now"])
        path = self._path(keys)
        start = time.monotonic()
        answer = await connection.get(path, TIMEOUT_SECONDS)
        end = time.monotonic()
        reads = self.taken_down(keys, answer, start, end) if answer.status in (200, 404) else []
        self._notes.take(reads)
        if opening is not None:  # a board that is just being opened says nothing about the ratio of hits
            self._notes.count("opened")
            return
        self._notes.count("requests")
        if reads:
            self._notes.count_documents(len(reads), answer.headers.get("cache-status", ""))
        else:
            self._notes.count("shed" if answer.status == 503 else "server_errors")

    def _path(self, keys: Sequence[int]) -> str:
        names = ",".join(quote(self._known.keys[key], safe=":") for key in keys)
        resource = self._known.resources[keys[0]]
        return f"/v1/{resource}/{names}" if len(keys) == 1 else f"/v1/{resource}?keys={names}"

    def taken_down(self, keys: Sequence[int], answer: HttpAnswer, start: float, end: float) -> list[Read]:
        """What an answer of status 200 or 404 says about each key."""
        bound = _bound(answer.headers)
        version = int(answer.headers.get("neverstale-version", "0"), 16)
        resource = self._known.resources[keys[0]]
        reads = []
        for key, (names, document) in zip(keys, _answered(answer, len(keys)), strict=True):
            answered = next((number for number in self._named(resource, names) if number != key), key)
            reads.append(Read(key, answered, self._number, _revision(document), start, end, bound, version))
        return reads

    def _named(self, resource: str, names: Sequence[str]) -> list[int]:
        return [self._numbers.get((resource, name), NOBODY) for name in names]


def _answered(answer: HttpAnswer, count: int) -> list[tuple[list[str], Mapping[str, Any] | None]]:
    """For each key in order: all the names by which the answer calls it, and the document."""
    if answer.status == 404:
        return [([], None)] * count
    body = orjson.loads(answer.body)
    if count == 1:
        return [([body["_id"]], body)]
    items = [(item["key"], item["value"]) for item in body["items"]]
    return [([name] if value is None else [name, value["_id"]], value) for name, value in items]


def _revision(document: Mapping[str, Any] | None) -> int:
    return ABSENT if document is None else document.get("rev", 0)


def _bound(headers: Mapping[str, str]) -> float:
    text = headers.get("neverstale-bound", "unknown")
    return nan if text == "unknown" else float(text)


def screens(known: Places) -> Sequence[range]:
    """The whole week, one screen of the board after the other."""
    return [range(first, min(first + BOARD_LINES, known.flights)) for first in range(0, known.flights, BOARD_LINES)]


async def read_board(url: str, folder: Path, readers: int, per_second: float, seed: int) -> None:
    """Read until SIGTERM; the notes are in `folder`. `per_second`: questions of all readers together, at most."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    known = places(week())
    with (folder / LOG).open("wb") as file:
        notes = Notes(file, Gauges(folder / GAUGES))
        opening = iter(screens(known))  # shared: together they read the week once
        async with asyncio.TaskGroup() as group:
            for number in range(readers):
                choice = Choice(known, seed + number)
                reader = BoardReader(number, url, known, notes, choice, opening, readers / per_second)
                group.create_task(reader.read_until(stop), name=f"reader-{number}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m neverstale.ops.demo.readers")
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--readers", type=int, default=READERS)
    parser.add_argument("--per-second", type=float, default=PER_SECOND)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    uvloop.run(read_board(options.url, options.folder, options.readers, options.per_second, options.seed))


if __name__ == "__main__":
    main()
