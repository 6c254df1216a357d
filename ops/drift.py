"""`neverstale rebuild --check`: every group of every counter and ranking, compared with MongoDB.

Redis has no snapshots, so the two cannot be read at one moment while changes flow. What is known is this: what Redis
holds contains everything up to the watermark that was applied *before* it is read, at version s, and nothing from
after the time that the cluster has *afterwards*, at version n. So

1. everything is read from Redis, and from MongoDB in one snapshot at s. What is equal is right.
2. What differs may only have changed since s. It is read again, a few times, now with a second snapshot at n: it is
   right as soon as it equals either; it has **drifted** if MongoDB says the same at s and at n, and Redis something
   else, three times; and it is **undecided** if it changes faster than can be compared.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from rich.markup import escape

from neverstale.cache import Cache
from neverstale.catalog import Catalog
from neverstale.clients import mongo_client, redis_client
from neverstale.derived.generations import Generation, UnknownFormat
from neverstale.derived.groups import members, value_of
from neverstale.derived.store import DerivedStore
from neverstale.errors import Stop
from neverstale.keys import Names
from neverstale.loader import Loader
from neverstale.settings import Settings
from neverstale.versions import Version, to_hex
from ops.drift_values import NOTHING_COUNTED, NOTHING_RANKED, At, InMongoDB, InRedis, Value, alike
from ops.named import declarations_named, resource_named
from ops.output import console, print_json, table

TIMES: Final = 3
"""So often a group must differ, while MongoDB does not change it, to have drifted."""
MOST_ROUNDS: Final = 10
PAUSE_SECONDS: Final = 0.3
SHOWN: Final = 20
"""Differences in a table; JSON has all."""


@dataclass(frozen=True, slots=True)
class Difference:
    declaration: str
    group: str
    """As Redis names it."""
    redis: str
    mongodb: str


@dataclass(frozen=True, slots=True)
class Drift:
    """What was found."""

    resource: str
    generation: str
    declarations: tuple[str, ...]
    """That were compared."""
    version: str
    """Of the first snapshot."""
    groups: int
    """That Redis or MongoDB knows."""
    differences: list[Difference]
    undecided: int
    unknown: dict[str, str]
    """Declaration -> why Redis does not tell, so that answers come from MongoDB."""

    @property
    def ok(self) -> bool:
        return not self.differences and "lost" not in self.unknown.values()


async def drift(settings: Settings, catalog: Catalog, name: str, declaration: str | None) -> Drift:
    resource = resource_named(catalog, name, settings.catalog)
    named = declarations_named(resource, declaration, settings.catalog)
    redis = redis_client(settings.redis, timeout_ms=settings.redis.write_timeout_ms)
    try:
        async with mongo_client(settings.mongodb) as mongo:
            cache = Cache(redis, Names(settings.redis.prefix))
            store = DerivedStore(cache, name)
            generation = await _complete(store, name)
            loader = Loader(mongo, catalog.database, settings.mongodb.read_timeout_ms)
            in_redis = InRedis(redis, store.names.of(generation.id))
            in_mongodb = InMongoDB(mongo, catalog.database, resource.collection)
            counted = [one for one in named if not one.startswith("lists.") and one in generation.digests]
            unknown = await in_redis.unknown(generation, counted)
            compared = tuple(one for one in counted if one not in unknown)
            comparison = _Comparison(generation, in_redis, in_mongodb, cache, settings.kafka.group, loader)
            found = await comparison.first(compared)
            await comparison.settle(found)
            if await _complete(store, name) != generation:
                raise Stop(f"another generation of {name} took over meanwhile; compare again")
            return Drift(
                name,
                generation.id,
                compared,
                to_hex(found.version),
                found.groups,
                [_difference(at, *pair) for at, pair in sorted(found.drifted.items())],
                len(found.suspects),
                unknown,
            )
    except UnknownFormat:
        raise Stop(f"another release has written what is derived from {name}; use its `neverstale`") from None
    finally:
        await redis.aclose()


async def _complete(store: DerivedStore, name: str) -> Generation:
    known = (await store.generations()).complete
    if known is None:
        raise Stop(f"no generation of {name} is complete: answers come from MongoDB until consumers have built one")
    return known


@dataclass(slots=True)
class _Found:
    version: Version
    groups: int
    suspects: dict[At, int]
    """Group -> how often it differed though MongoDB did not change it."""
    drifted: dict[At, tuple[Value, Value]]


@dataclass(frozen=True, slots=True)
class _Comparison:
    generation: Generation
    redis: InRedis
    mongodb: InMongoDB
    cache: Cache
    group: str
    loader: Loader

    async def first(self, wanted: Sequence[str]) -> _Found:
        version = await self._applied()
        kept = await self.redis.values(self.generation, wanted)
        expected = await self.mongodb.values(self.generation, wanted, version)
        everything = kept.keys() | expected.keys()
        return _Found(version, len(everything), dict.fromkeys(_differing(everything, kept, expected), 0), {})

    async def settle(self, found: _Found) -> None:
        for _ in range(MOST_ROUNDS):
            if not found.suspects:
                return
            await asyncio.sleep(PAUSE_SECONDS)
            await self._again(found)

    async def _again(self, found: _Found) -> None:
        wanted = list(dict.fromkeys(name for name, _ in found.suspects))
        since = await self._applied()
        kept = await self.redis.values(self.generation, wanted)
        until = await self.loader.now()
        before = await self.mongodb.values(self.generation, wanted, since)
        after = await self.mongodb.values(self.generation, wanted, until)
        wrong = _differing(_differing(found.suspects, kept, before), kept, after)
        moving = _differing(wrong, before, after)
        found.suspects = {at: found.suspects[at] + (at not in moving) for at in wrong}
        for at in [at for at, times in found.suspects.items() if times >= TIMES]:
            del found.suspects[at]
            found.drifted[at] = _value(kept, at), _value(after, at)

    async def _applied(self) -> Version:
        """The version up to which Redis contains everything."""
        held = await self.cache.watermarks(self.group)
        marks = [mark.version for mark in held.by_partition.values() if mark.identity == held.identity]
        if not marks or len(marks) < (held.partitions or 1):
            raise Stop("no consumer has said how far this Redis is; see `neverstale status`")
        return min(marks)


def _differing(those: Collection[At], one: dict[At, Value], other: dict[At, Value]) -> set[At]:
    return {at for at in those if not alike(_value(one, at), _value(other, at))}


def _value(values: dict[At, Value], at: At) -> Value:
    return values.get(at, NOTHING_COUNTED if at[0].startswith("counters.") else NOTHING_RANKED)


def _difference(at: At, kept: Value, expected: Value) -> Difference:
    return Difference(at[0], at[1], str(kept), str(expected))


def print_drift(found: Drift, *, as_json: bool) -> None:
    """As JSON: the fields of `Drift`, `ok`, and `drifted`, the number of differences."""
    if as_json:
        print_json({"ok": found.ok, "drifted": len(found.differences), **asdict(found)})
        return
    if found.differences:
        shown = table("", "group", "Redis", "MongoDB")
        for one in found.differences[:SHOWN]:
            shown.add_row(one.declaration, escape(_group(one)), escape(one.redis), escape(one.mongodb))
        console().print(shown)
    for name, why in found.unknown.items():
        print(f"{name} is not compared: {why}; answers come from MongoDB")
    count = len(found.differences)
    print(f"{found.resource}: {count} of {found.groups} groups have drifted from MongoDB (snapshot {found.version})")
    if found.undecided:
        print(f"{found.undecided} more change too fast to tell; check again when fewer changes come")
    if not found.ok:
        print(f"count anew with: neverstale rebuild {found.resource}")


def _group(one: Difference) -> str:
    values = [value_of(text) for text in members(one.group, one.group != "")]
    return ", ".join(map(str, values)) or "all"
