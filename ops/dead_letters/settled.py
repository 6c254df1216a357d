"""Which dead letters are settled: replayed or discarded. Kafka can only forget the oldest, so it is noted elsewhere.

One document for each topic of dead letters, in the control collection:

    {_id: "dead:<topic>", before: {offset, at_ms}, settled: [{offset, at_ms}, ...]}

`before` settles all with lower offsets and no later time, `settled` single ones. The time is the letter's own: in a
topic that was made again the same offset is another letter.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from pymongo.asynchronous.collection import AsyncCollection

from neverstale.mongodb.control import Fields, control, settled_id
from neverstale.ops.servers import mongodb
from neverstale.settings import Settings


class LetterPlace(NamedTuple):
    """Where a letter lies in its topic."""

    offset: int
    at_ms: int


NOWHERE = LetterPlace(0, 0)


@dataclass(frozen=True, slots=True)
class Settled:
    before: LetterPlace = NOWHERE
    single: frozenset[LetterPlace] = frozenset()

    def __contains__(self, place: LetterPlace) -> bool:
        return place in self.single or (place.offset < self.before.offset and place.at_ms <= self.before.at_ms)


class SettledLetters:
    """Notes what was done with the letters of one topic. Raises `Outage`."""

    def __init__(self, settings: Settings, database: str) -> None:
        self._mongodb = settings.mongodb
        self._database = database
        self._id = {"_id": settled_id(settings.kafka.dead_topic_name)}

    async def load(self) -> Settled:
        async with self._control() as collection:
            found = await collection.find_one(self._id) or {}
        before = found.get("before", {})
        places = (LetterPlace(int(one["offset"]), int(one["at_ms"])) for one in found.get("settled", ()))
        return Settled(LetterPlace(int(before.get("offset", 0)), int(before.get("at_ms", 0))), frozenset(places))

    async def add(self, places: Iterable[LetterPlace], first: int) -> None:
        """Note some. What lies before `first`, the topic's first offset, is gone and need not be noted any more."""
        each = [place._asdict() for place in places]
        async with self._control() as collection:
            await collection.update_one(self._id, {"$addToSet": {"settled": {"$each": each}}}, upsert=True)
            await collection.update_one(self._id, {"$pull": {"settled": {"offset": {"$lt": first}}}})

    async def add_all(self, before: LetterPlace) -> None:
        """Note all up to there."""
        change = {"$set": {"before": before._asdict()}, "$pull": {"settled": {"offset": {"$lt": before.offset}}}}
        async with self._control() as collection:
            await collection.update_one(self._id, change, upsert=True)

    @asynccontextmanager
    async def _control(self) -> AsyncIterator[AsyncCollection[Fields]]:
        async with mongodb(self._mongodb) as client:
            yield control(client[self._database])
