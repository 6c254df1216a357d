"""What roles come to in a long life, brought about in one moment: changes, groups that become empty, evictions, what
a neighbour wrote, reads that are counted, a request for a walk. And whether all of it is over, and all is true."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx

from neverstale.derived import generations
from neverstale.derived.redis_names import DerivedNames
from neverstale.keys import Names
from neverstale.ops.privileges.roles import Role
from tests.worlds.secured_pipeline import PATHS, RESOURCE, Place

LONE: Final = {"_id": "lone", "origin": "LGA", "delay": 7}
"""The only one of its groups."""
OF_LONE: Final = f"/v1/{RESOURCE}/-/counters/by_origin?origin=LGA"
FOREIGN: Final = f"/v1/{RESOURCE}/3"
"""Under its entry lies a neighbour's value."""
UNTOUCHED: Final = f"/v1/{RESOURCE}/4"
"""Nobody has read it since it was cached."""
HIT: Final = (*PATHS, OF_LONE, FOREIGN, UNTOUCHED)
"""What the cache answers when all is well."""
ASKED: Final = (*HIT, f"/v1/{RESOURCE}/-/most-read", f"/v1/{RESOURCE}/-/most-read/1")
LONG_AGO: Final = b"1"
"""Since then reads were never counted again."""
SHORT_MS: Final = 2500
"""Less than the lease of a refresh, and more than it takes to write."""
TOUCHED: Final = 1
"""Where an entry says so."""


@dataclass
class Moments:
    """Of one pipeline. `flights`: the collection, as its writers see it."""

    place: Place
    flights: Any
    briefly: bool = False
    """Only changes come: what every role meets all the time."""
    changes: int = 1000
    voided: str = ""
    """The generation of which something was evicted."""

    @property
    def names(self) -> Names:
        return Names(self.place.base.redis.prefix)

    @property
    def derived(self) -> DerivedNames:
        return DerivedNames(self.place.base.redis.prefix, RESOURCE)

    @property
    def _reads_since(self) -> str:
        return f"{self.derived.base}:reads:since"

    async def quiet(self) -> None:
        """As long as everything has its rights."""
        await self.flights.replace_one({"_id": LONE["_id"]}, LONE, upsert=True)

    async def come(self, role: Role) -> None:
        """All of them that this role has to do with."""
        await self.write()
        if self.briefly:
            return
        async with self.place.servers.redis_admin as redis:
            if role == "consumer":
                await self._evict(redis)
                await self._put_hash(redis, self.names.floor(RESOURCE))
            if role == "api":
                await self._put_hash(redis, self.names.entry(RESOURCE, "s:3"))
                await redis.setrange(self.names.entry(RESOURCE, "s:4"), TOUCHED, b"0")
                await redis.hset(self._reads_since, "since", LONG_AGO)
                await redis.persist(self._reads_since)

    async def write(self) -> None:
        self.changes += 1
        await self.flights.update_one({"_id": "1"}, {"$set": {"delay": self.changes}})
        await self.flights.delete_one({"_id": "2"})
        await self.flights.insert_one({"_id": "2", "origin": "JFK", "delay": 2})

    async def _evict(self, redis: Any) -> None:
        """Something of the generation that serves, so that another one is counted."""
        known = generations.decode(await redis.get(self.derived.generations))
        if known.complete is not None:
            self.voided = known.complete.id
            await redis.delete(self.derived.of(known.complete.id).counter("by_origin"))

    @staticmethod
    async def _put_hash(redis: Any, key: bytes) -> None:
        await redis.delete(key)
        await redis.hset(key, "whose", "a neighbour's")

    async def open(self, role: Role, http: httpx.AsyncClient) -> list[str]:
        """What is not over yet. When all is, the last ones come: with what is counted again nothing is lost."""
        found = [*await self.untrue(http), *[one async for one in self._open_in_redis(role)]]
        return found or [one async for one in self._last()]

    async def _last(self) -> AsyncIterator[str]:
        if not (await self.flights.delete_one({"_id": LONE["_id"]})).deleted_count:
            return
        yield "a group has become empty"
        entry = self.names.entry(RESOURCE, "s:1")
        async with self.place.servers.redis_admin as redis:
            # Whoever refreshes it for having been read sees to it that it lives as long as his lease.
            await redis.setrange(entry, TOUCHED, b"1")
            await redis.pexpire(entry, SHORT_MS)
        await self.write()
        yield "what was read has changed shortly before its end"

    async def _open_in_redis(self, role: Role) -> AsyncIterator[str]:
        async with self.place.servers.redis_admin as redis:
            if role == "consumer":
                known = generations.decode(await redis.get(self.derived.generations))
                if known.complete is None or known.complete.id == self.voided:
                    yield "no other generation is complete"
                async for key in redis.scan_iter(f"{self.derived.of(self.voided).base}:*", count=1000):
                    yield f"{key!r} is still there"
                if await redis.type(self.names.floor(RESOURCE)) != b"string":
                    yield "there is no floor"
            if role == "api":
                if await redis.getrange(self.names.entry(RESOURCE, "s:4"), TOUCHED, TOUCHED) != b"1":
                    yield "nobody has touched what was read"
                if await redis.ttl(self._reads_since) < 0:
                    yield "no reads were counted"

    async def untrue(self, http: httpx.AsyncClient) -> list[str]:
        """What the cache does not answer, or not as MongoDB has it."""
        documents = await self.flights.find().sort([("delay", 1), ("_id", 1)]).to_list()
        answers = {path: await http.get(path) for path in HIT}
        found = [
            f"{path} is no hit"
            for path, answer in answers.items()
            if answer.status_code != 200 or "; hit" not in answer.headers.get("cache-status", "")
        ]
        return found or [
            f"{path}: {shown} instead of {expected}"
            for path, shown, expected in self._figures(documents, {path: one.json() for path, one in answers.items()})
            if shown != expected
        ]

    @staticmethod
    def _figures(documents: list[dict[str, Any]], answers: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
        """Where, what is shown, and what is true."""
        ours = [one for one in documents if one["origin"] == "JFK"]
        total, late = sum(one["delay"] for one in ours), next(one["delay"] for one in ours if one["_id"] == "1")
        document, page, counter, groups, ranking, rank = PATHS
        yield document, answers[document]["delay"], late
        yield page, [one["_id"] for one in answers[page]["items"]], [one["_id"] for one in ours]
        shown = answers[counter]
        yield counter, (shown["count"], shown["sums"]), (len(ours), {"delay": total})
        yield groups, len(answers[groups]["groups"]), len({one["origin"] for one in documents})
        yield ranking, {one["key"] for one in answers[ranking]["items"]}, {one["_id"] for one in ours}
        yield rank, answers[rank]["score"], late
        yield OF_LONE, answers[OF_LONE]["count"], len(documents) - len(ours)
