"""Playing without end: the week of flights in one MongoDB, loaded, then played slowly again and again.

`neverstale up --demo` plays on its own servers, `neverstale play` on the MongoDB of the settings. Nothing is checked,
so nothing is noted but the number of each flight's changes.
"""

import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.mongodb.refusals import ours
from neverstale.ops.demo.flights.board import Document, week
from neverstale.ops.demo.flights.player import Player
from neverstale.ops.demo.flights.writers import COLLECTIONS, OPTIONS, Writers
from neverstale.ops.stack.process import PROJECT
from neverstale.ops.terminal.interrupts import interrupts
from neverstale.versions import Version

PER_SECOND: Final = 20.0
"""Documents: a week of flights takes about twenty minutes."""
TRY: Final = (
    "/v1/airlines/UA",
    "/v1/flights/-/lists/departures?origin=JFK&day=2013-02-04",
    "/v1/flights/-/counters/by_carrier",
    "/v1/flights/-/rankings/most_delayed?day=2013-02-04",
)
"""What there is to read."""


def demo_catalog() -> Path:
    """The catalog of the demo: in this package where neverstale is installed, else the project's own."""
    installed = Path(__file__).parents[1] / "catalog.toml"
    return installed if installed.exists() else PROJECT / "catalog.toml"


class Revisions:
    """Numbers the changes of each flight, and remembers no more."""

    def __init__(self) -> None:
        self._changes: Counter[int] = Counter()

    def begin(self, key: int, at: float, *, removal: bool = False) -> int:
        self._changes[key] += 1
        return self._changes[key]

    def acknowledge(self, key: int, revision: int, at: float, version: Version) -> None: ...


@asynccontextmanager
async def loaded(uri: str) -> AsyncIterator[Player]:
    """The week's schedule is in MongoDB, and the player may `play` it, as long as the block lasts.

    Raises:
        Misconfigured: the collections hold something else.
        Outage: MongoDB does not answer.
    """
    database = Catalog.load(demo_catalog()).database
    try:
        await _check_collections(uri, database)
        async with Writers(uri, database, week(), Revisions()) as writers:
            await writers.load()
            yield Player(week(), writers, PER_SECOND, lambda _: None)
    except PyMongoError as error:
        raise ours(error, "keys") from error


async def play(uri: str) -> None:
    """Load the week and play it until SIGINT or SIGTERM. Raises as `loaded`."""
    with interrupts(signal.SIGINT, signal.SIGTERM) as stop:
        async with loaded(uri) as player:
            print(f"A week of flights is loaded, and played at {PER_SECOND:g} changes a second.", flush=True)
            await player.play(stop)
            print(f"{player.changes} changes were written.", flush=True)


async def _check_collections(uri: str, database: str) -> None:
    """Refuse to replace what somebody else has put there."""
    async with AsyncMongoClient[Document](uri, **OPTIONS) as mongo:
        for name in COLLECTIONS:
            known = [document["_id"] for document in _documents(name)]
            if await mongo[database][name].find_one({"_id": {"$nin": known}}, {"_id": 1}) is not None:
                problem = f"holds documents in {database}.{name} that are not the demo's, and would lose them"
                raise Misconfigured("mongodb.uri", problem, "lead it to a MongoDB without them")


def _documents(name: str) -> list[Document]:
    return {
        "flights": [flight.document for flight in week().flights],
        "airlines": list(week().airlines),
        "airports": list(week().airports),
    }[name]
