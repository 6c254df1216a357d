"""`neverstale rebuild --check`: every group of every figure (counters, rankings), compared with MongoDB.

Redis has no snapshots, so the two cannot be read at one moment while changes flow. What is known is this: what Redis
holds contains everything up to the watermark that was applied *before* it is read, at version s, and nothing from
after the time that the cluster has *afterwards*, at version n. So MongoDB is read in two snapshots, at s and at n.
Where they say the same, Redis must say so, too; where they do not, a document has changed meanwhile, and the group is
read again. A group that differs is read again as well, and has **drifted** when it has differed three times. One that
changes every time is **undecided**.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeAlias

from rich.markup import escape

from neverstale.bson.texts import value_of
from neverstale.catalog import Catalog
from neverstale.catalog.declarations import Derivation
from neverstale.derived.generations import Generation
from neverstale.derived.groups import members
from neverstale.derived.kinds.comparison import LOST, AnyComparison
from neverstale.derived.kinds.table import KINDS
from neverstale.derived.store import DerivedStore
from neverstale.errors import Stop
from neverstale.mongodb.loader import Loader
from neverstale.ops.redis.stores import derived_stores
from neverstale.ops.repair.named import declarations_named, resource_named
from neverstale.ops.repair.snapshots import Snapshots
from neverstale.ops.terminal.output import console, print_json, table
from neverstale.redis.cache import Cache
from neverstale.settings import Settings
from neverstale.versions import Version, to_hex

TIMES: Final = 3
"""So often a group must differ, while MongoDB does not change it, to have drifted."""
MOST_ROUNDS: Final = 12
FRESH_SECONDS: Final = 1.5
"""The watcher marks at least every second."""
POLL_SECONDS: Final = 0.003
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
        return not self.differences and LOST not in self.unknown.values()


async def drift(settings: Settings, catalog: Catalog, name: str, declaration: str | None) -> Drift:
    resource = resource_named(catalog, name, settings.catalog)
    named = declarations_named(resource, declaration, settings.catalog)
    async with derived_stores(settings, catalog, resource) as opened:
        store, cell = opened.store, opened.cell
        generation = await _complete(store, name)
        snapshots = Snapshots(opened.mongo, catalog.database, resource.collection)
        comparing = _Comparing(store, snapshots, cell, opened.settings.kafka.group, opened.loader)
        found = _Found(await comparing.applied())
        held = {one.full_name: one for one in generation.shape.declared.derivations()}
        for each in named:
            if each in held:
                await comparing.compare(held[each], generation, found)
        if await _complete(store, name) != generation:
            raise Stop(f"another generation of {name} took over meanwhile; compare again")
        return Drift(
            name,
            generation.id,
            tuple(found.compared),
            to_hex(found.version),
            found.groups,
            sorted(found.differences, key=lambda one: (one.declaration, one.group)),
            found.undecided,
            found.unknown,
        )


async def _complete(store: DerivedStore, name: str) -> Generation:
    known = (await store.generations()).on(await store.identity()).complete
    if known is None:
        raise Stop(f"no generation of {name} is complete: answers come from MongoDB until consumers have built one")
    return known


@dataclass(slots=True)
class _Found:
    version: Version
    compared: list[str] = field(default_factory=list)
    groups: int = 0
    differences: list[Difference] = field(default_factory=list)
    undecided: int = 0
    unknown: dict[str, str] = field(default_factory=dict)


Values: TypeAlias = Mapping[str, Any]
"""Group -> what is said of it, as its comparison has it."""


@dataclass(frozen=True, slots=True)
class _Between:
    """What Redis says, and what MongoDB said before and afterwards."""

    comparison: AnyComparison
    redis: Values
    before: Values
    after: Values

    @property
    def groups(self) -> set[str]:
        return {*self.redis, *self.before, *self.after}

    def is_quiet(self, group: str) -> bool:
        return self.comparison.alike(self._of(self.before, group), self._of(self.after, group))

    def agrees(self, group: str) -> bool:
        return self.comparison.alike(self._of(self.redis, group), self._of(self.after, group))

    def difference(self, declaration: str, group: str) -> Difference:
        kept, expected = self._of(self.redis, group), self._of(self.after, group)
        return Difference(declaration, group, str(kept), str(expected))

    def _of(self, values: Values, group: str) -> Any:
        return values.get(group, self.comparison.nothing)


@dataclass(frozen=True, slots=True)
class _Comparing:
    store: DerivedStore
    snapshots: Snapshots
    cache: Cache
    group: str
    loader: Loader

    async def compare(self, one: Derivation, generation: Generation, found: _Found) -> None:
        kind = KINDS[one.kind]
        comparison = kind.comparison(one.name, one.declared, self.cache, self.store.names, generation.id)
        if comparison is None:
            return
        if (why := await comparison.unknown()) is not None:
            found.unknown[one.full_name] = why
            return
        found.compared.append(one.full_name)
        between = await self._read(comparison, await self.applied(), ())
        found.groups += len(between.groups)
        differed = dict.fromkeys(between.groups, 0)
        for _ in range(MOST_ROUNDS):
            differed = {
                group: times + between.is_quiet(group)
                for group, times in differed.items()
                if not (between.is_quiet(group) and between.agrees(group))
            }
            for group in [group for group, times in differed.items() if times >= TIMES]:
                del differed[group]
                found.differences.append(between.difference(one.full_name, group))
            if not differed:
                return
            between = await self._read(comparison, await self._fresh(), differed)
        found.undecided += len(differed)

    async def _read(self, comparison: AnyComparison, since: Version, only: Collection[str]) -> _Between:
        kept = await comparison.in_redis(only)
        until = await self.loader.now()
        before = await self.snapshots.at(comparison, since, only)
        after = await self.snapshots.at(comparison, until, only)
        return _Between(comparison, kept, before, after)

    async def _fresh(self) -> Version:
        """`applied`, as soon as it rises: the less lies between two snapshots, the fewer groups have changed."""
        first = await self.applied()
        for _ in range(round(FRESH_SECONDS / POLL_SECONDS)):
            await asyncio.sleep(POLL_SECONDS)
            if (version := await self.applied()) != first:
                return version
        return first

    async def applied(self) -> Version:
        """The version up to which Redis contains everything."""
        held = await self.cache.watermarks(self.group)
        marks = [mark.version for mark in held.by_partition.values() if mark.identity == held.identity]
        if not marks or len(marks) < (held.partitions or 1):
            raise Stop("no consumer has said how far this Redis is; see `neverstale status`")
        return min(marks)


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
        print(f"count again with: neverstale rebuild {found.resource}")


def _group(one: Difference) -> str:
    values = [value_of(text) for text in members(one.group, one.group != "")]
    return ", ".join(map(str, values)) or "all"
