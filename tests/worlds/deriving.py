"""What the tests of derived data share: a watcher with its walker, consumers, writers, and what MongoDB says."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

import neverstale.consumers.main
import neverstale.streams.main
from neverstale.bson.values import CODEC
from neverstale.catalog import Catalog, Resource
from neverstale.derived import reading
from neverstale.derived.counters.fields import Group, Sum
from neverstale.derived.counters.held import all_groups
from neverstale.derived.generations import Generation
from neverstale.derived.groups import combinations
from neverstale.derived.kinds.counters import CounterShape
from neverstale.derived.kinds.rankings import RankingShape
from neverstale.derived.rankings.held import is_whole, size_fields
from neverstale.derived.rankings.members import member_of
from neverstale.derived.store import DerivedStore
from neverstale.keys import Names, canonical
from neverstale.redis.cache import Cache
from neverstale.role.service import Health, Life
from neverstale.servers import mongo_client
from neverstale.settings import Settings
from neverstale.versions import Version, from_timestamp
from tests.support.diary import Diary, Document, updated
from tests.support.waiting import eventually

RESOURCE: Final = "flights"
DECLARED: Final[dict[str, Any]] = {
    "key_type": "string",
    "on_change": "invalidate",
    "fields": {"origin": "string", "day": "int", "gate": "string", "tags": "array"},
    "lists": {
        "departures": {"by": ["origin", "day"], "where": {"cancelled": False}, "sort": ["gate"]},
        "tagged": {"by": ["tags"]},
        "everything": {},
    },
    "counters": {
        "by_status": {"by": ["origin", "status"]},
        "totals": {"sums": {"delay": {"field": "delay", "scale": 1}}},
        "by_tag": {"by": ["tags"], "sums": {"delay": {"field": "delay", "scale": 1}}},
    },
    "rankings": {"late": {"by": ["day"], "score": "delay"}, "early": {"score": "-delay"}},
}
PATIENCE_SECONDS: Final = 60.0


def catalog_of(database: str, others: Mapping[str, Any] | None = None, /, **changes: Any) -> Catalog:
    """`others`: further resources."""
    resources = {RESOURCE: DECLARED | changes, **(others or {})}
    return Catalog.model_validate({"database": database, "resources": resources})


@dataclass(frozen=True)
class Page:
    """What a reader filled: the keys of a whole group, as of a version."""

    generation: str
    name: str
    group: str
    version: Version
    shown: tuple[Any, ...]


@dataclass
class Deriving:
    """Real servers and the roles on them, in this process."""

    settings: Settings
    catalog: Catalog
    mongo: AsyncMongoClient[dict[str, Any]]
    redis: Redis
    store: DerivedStore
    pages: list[Page] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def on(cls, settings: Settings, catalog: Catalog) -> AsyncIterator[Self]:
        redis = Redis.from_url(settings.redis.url.get_secret_value())
        try:
            async with mongo_client(settings.mongodb) as mongo:
                store = DerivedStore(
                    Cache(redis, Names(settings.redis.prefix)), catalog.resources[RESOURCE].derived_name
                )
                yield cls(settings, catalog, mongo, redis, store)
        finally:
            await redis.aclose()

    @property
    def resource(self) -> Resource:
        return self.catalog.resources[RESOURCE]

    @property
    def documents(self) -> Any:
        return self.mongo[self.catalog.database].get_collection(RESOURCE, codec_options=CODEC)

    @asynccontextmanager
    async def watcher(self) -> AsyncIterator[Life]:
        async with running(neverstale.streams.main.live, self.settings, self.catalog) as life:
            yield life

    @asynccontextmanager
    async def consumer(self, catalog: Catalog | None = None) -> AsyncIterator[Life]:
        async with running(neverstale.consumers.main.live, self.settings, catalog or self.catalog) as life:
            yield life

    async def until_complete(self, declared: str | None = None) -> Generation:
        """The generation that serves, as soon as there is one that is declared like this."""

        async def complete() -> bool:
            known = (await self.store.generations()).complete
            return known is not None and known.declared == (declared or self.resource.derived.text)

        await eventually(complete, "a generation is complete", PATIENCE_SECONDS)
        known = (await self.store.generations()).complete
        assert known is not None
        return known

    async def until_right(self) -> None:
        """Wait until everything derived is what MongoDB says; fail with the differences."""
        differences: list[str] = ["nothing was compared"]

        async def right() -> bool:
            known = (await self.store.generations()).complete
            if known is None:
                differences[:] = ["no generation is complete"]
                return False
            differences[:] = await self.differences(known)
            return not differences

        try:
            await eventually(right, "derived data equals MongoDB's", PATIENCE_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(differences[:20])) from None

    async def differences(self, generation: Generation) -> list[str]:
        """Every group of every counter and ranking that is not what the documents say."""
        shape, names = generation.shape, self.store.names.of(generation.id)
        documents = await self.documents.find().to_list()
        held = list(zip([one["_id"] for one in documents], shape.facts(documents), strict=True))
        found: list[str] = []
        for counter in shape.of(CounterShape):
            expected: dict[str, Group] = {}
            for _, some in held:
                assert some is not None
                for group in combinations(counter.by(some)) or ():
                    expected[group] = _plus(expected.get(group), [some[place] for place in counter.sums])
            sums = len(generation.shape.declared.counters[counter.name].sums)
            kept = all_groups(await self._hash(names.counter(counter.name)), sums)
            found += _compare(counter.name, expected, kept)
        for ranking in shape.of(RankingShape):
            scores: dict[str, dict[bytes, float]] = {}
            for key, some in held:
                assert some is not None
                for group in (combinations(ranking.by(some)) or ()) if some[ranking.score] else ():
                    scores.setdefault(group, {})[member_of(canonical(key))] = float(some[ranking.score])
            sizes = await self._hash(names.sizes(ranking.name))
            kept_scores: dict[str, dict[bytes, float] | None] = {}
            for group in {*scores, *(name.decode() for name in sizes if name[:1] != b".")}:
                pairs: Any = await self.redis.zrange(names.ranking(ranking.name, group), 0, -1, withscores=True)
                members = dict(pairs)
                whole = is_whole([sizes.get(one) for one in size_fields(group)], len(members))
                kept_scores[group] = members if whole else None
            found += _compare(ranking.name, scores, kept_scores)
        return found

    async def _hash(self, key: bytes) -> dict[bytes, bytes]:
        held: Any = await self.redis.hgetall(key)
        return dict(held)

    # Pages, as a reader would fill them, and whether they are still valid

    async def fill_pages(self) -> None:
        """Read every group of every list in one snapshot, and remember it as a page."""
        known = await self.store.generations()
        async with self.mongo.start_session(snapshot=True) as session:
            found = await self.documents.find({}, session=session).to_list()
            if session._snapshot_time is None:
                return  # the collection does not exist
            version = from_timestamp(session._snapshot_time)
        for generation in known.all:
            if generation.birth is not None and generation.birth <= version:
                for name, group, shown in self._grouped(generation, found):
                    self.pages.append(Page(generation.id, name, group, version, shown))

    def _grouped(
        self, generation: Generation, found: list[Mapping[str, Any]]
    ) -> list[tuple[str, str, tuple[Any, ...]]]:
        pages = []
        for one in generation.shape.tagged:
            by_group: dict[str, list[Any]] = {}
            for document in found:
                some = generation.shape.facts([document])[0]
                assert some is not None
                for group in one.groups(some) or ():
                    by_group.setdefault(group, []).append(
                        {name: document.get(name) for name in self.resource.fields or ()}
                    )
            pages += [(one.name, group, tuple(map(repr, shown))) for group, shown in by_group.items()]
        return pages

    async def stale_pages(self) -> list[Page]:
        """Pages that are valid by their tags although MongoDB, which is quiet, shows something else."""
        known = await self.store.generations()
        found = await self.documents.find().to_list()
        now = {(one.id, name, group): shown for one in known.all for name, group, shown in self._grouped(one, found)}
        stale = []
        for page in self.pages:
            one = known.of(page.generation)
            if one is None:
                continue
            held = await self._hash(self.store.names.of(one.id).tags(page.name))
            tags = [held.get(name) for name in reading.tag_fields(page.group)]
            floor = reading.page_floor(one, 1, tags)
            shows_now = now.get((page.generation, page.name, page.group), ())
            if floor is not None and page.version >= floor and sorted(page.shown) != sorted(shows_now):
                stale.append(page)
        return stale


def _plus(group: Group | None, sums: Sequence[str]) -> Group:
    held = group or Group(0, tuple(Sum(0, 0) for _ in sums))
    totals = tuple(
        Sum(
            None if fact == "u" or total.scaled is None else total.scaled + int(fact or 0),
            total.numbers + bool(fact),
        )
        for total, fact in zip(held.sums, sums, strict=True)
    )
    return Group(held.documents + 1, totals)


def _compare(name: str, expected: Mapping[str, Any], kept: Mapping[str, Any] | None) -> list[str]:
    if kept is None:
        return [f"{name} is unknown"]
    return [
        f"{name} of {group!r} is {kept.get(group)} instead of {expected.get(group)}"
        for group in sorted({*expected, *kept})
        if expected.get(group) != kept.get(group)
    ]


@asynccontextmanager
async def running(live: Any, settings: Settings, catalog: Catalog, role: str = "test") -> AsyncIterator[Life]:
    """Drained at the end, unless it was killed."""
    life = Life(role, "test", asyncio.Event(), Health(), "")
    task = asyncio.create_task(live(settings, catalog, life))
    life.health.parts["task"] = None
    life.__dict__["task"] = task
    try:
        yield life
    finally:
        life.stop.set()
        if not task.done():
            async with asyncio.timeout(30):
                await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def kill(life: Life) -> None:
    """End a role where it stands, without any of the care that a stop takes."""
    task: asyncio.Task[None] = life.__dict__["task"]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Writer:
    """Writes at random, with a seed, as an application would; keeps a diary of it.

    The diary is true if nobody else writes these keys and none of them was there before.
    """

    def __init__(self, deriving: Deriving, seed: int, keys: int = 40, diary: Diary | None = None) -> None:
        self._deriving = deriving
        self.chance = random.Random(seed)
        self._keys = [f"k{number}" for number in range(keys)]
        self._held: dict[str, Document] = {}
        self.diary = diary or Diary()
        self.written: Counter[str] = Counter()

    def document(self, key: str) -> dict[str, Any]:
        chance = self.chance
        document: dict[str, Any] = {
            "_id": key,
            "origin": chance.choice(["JFK", "LGA", None]),
            "day": chance.randrange(3),
        }
        document |= {
            "status": chance.choice("sdac"),
            "cancelled": chance.random() < 0.2,
            "gate": chance.choice("xyz"),
        }
        document["delay"] = chance.choice([None, 0, -5, 17, 2**40, 0.5, 0.25])
        document["tags"] = chance.sample(["a", "b", "c", "d"], chance.randrange(4))
        if chance.random() < 0.1:
            del document[chance.choice(["origin", "day", "tags", "delay"])]
        return document

    async def write(self) -> None:
        """One write, or a few that belong together."""
        chance, key = self.chance, self.chance.choice(self._keys)
        kind = chance.choices(
            ["upsert", "replace", "delete", "move", "field", "push", "transaction", "unset"], [3, 2, 2, 4, 6, 2, 1, 1]
        )[0]
        self.written[kind] += 1
        match kind:
            case "upsert":
                fields = self.document(key)
                fields.pop("_id")
                await self.update(key, {"$set": fields}, upsert=True)
            case "replace":
                await self.replace(key, self.document(key))
            case "delete":
                await self.delete(key)
            case "move":
                for origin in ("LGA", "EWR", chance.choice(["JFK", "LGA"])):
                    await self.update(key, {"$set": {"origin": origin}})
            case "field":
                name = chance.choice(["status", "delay", "gate", "unused", "cancelled", "day"])
                await self.update(key, {"$set": {name: self.document(key).get(name)}})
            case "push":
                await self.update(key, {"$push": {"tags": chance.choice("abcd")}})
            case "unset":
                await self.update(key, {"$unset": {chance.choice(["origin", "tags"]): 1}})
            case "transaction":
                await self._transaction()

    async def update(self, key: str, update: Mapping[str, Mapping[str, Any]], *, upsert: bool = False) -> None:
        held = self._held.get(key, {"_id": key} if upsert else None)
        with self._noted({key: None if held is None else updated(held, update)}):
            await self._deriving.documents.update_one({"_id": key}, update, upsert=upsert)

    async def replace(self, key: str, document: Document) -> None:
        """Nothing happens if there is none."""
        with self._noted({key: document if key in self._held else None}):
            await self._deriving.documents.replace_one({"_id": key}, document)

    async def delete(self, key: str) -> None:
        with self._noted({key: None}):
            await self._deriving.documents.delete_one({"_id": key})

    async def _transaction(self) -> None:
        deriving = self._deriving
        keys = self.chance.sample(self._keys, 3)
        documents = {key: self.document(key) for key in keys}
        with self._noted(documents | {keys[0]: None}):
            async with deriving.mongo.start_session() as session, await session.start_transaction():
                for key, document in documents.items():
                    await deriving.documents.replace_one({"_id": key}, document, upsert=True, session=session)
                await deriving.documents.delete_one({"_id": keys[0]}, session=session)

    @contextmanager
    def _noted(self, changes: Mapping[str, Document | None]) -> Iterator[None]:
        with self.diary.noted(changes):
            yield
        for key, after in changes.items():
            if after is None:
                self._held.pop(key, None)
            else:
                self._held[key] = after
