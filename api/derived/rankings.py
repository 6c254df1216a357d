"""Rankings: who leads, the rank of one document, and who is next to it.

{"items": [{"key": "2013-02-08:UA650:LGA", "score": 340, "rank": 1}, ...]}
{"key": "2013-02-08:UA650:LGA", "score": 340, "rank": 17, "around": [...]}
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from neverstale.api.derived.figures import Figure, FigureSource
from neverstale.api.derived.generations import Known
from neverstale.api.reads.source import measured
from neverstale.catalog import Resource
from neverstale.catalog.declarations import RankingDeclaration
from neverstale.derived.queries import aggregate
from neverstale.derived.rankings import queries
from neverstale.derived.rankings.held import HeldRankings, Ranked, ranked
from neverstale.derived.rankings.members import member_of
from neverstale.derived.redis_names import slot_of
from neverstale.keys import KeyValue, any_value_of, canonical
from neverstale.mongodb import bson_json
from neverstale.mongodb.kinds import Kind, least_told
from neverstale.mongodb.loader import Found, Loader, Snapshot
from neverstale.redis.cache import Cache
from neverstale.versions import Version

FEW_ROWS: Final = 200
"""Of more, a thread makes the answer."""


@dataclass(frozen=True, slots=True)
class RankKey:
    """What is asked of a ranking."""

    canonical: str
    group: str = field(compare=False)
    values: Sequence[Any] = field(compare=False)
    key: KeyValue | None = field(compare=False)
    """`None`: the top."""
    count: int = field(compare=False)
    """Of the top; or neighbours on either side."""


def rankings_of(resource: Resource) -> "list[RankingSource]":
    return [RankingSource(resource, name, declared) for name, declared in resource.rankings.items()]


class RankingSource(FigureSource):
    """One ranking (`neverstale.api.derived.figures.Figure`)."""

    def __init__(self, resource: Resource, ranking: str, declared: RankingDeclaration) -> None:
        super().__init__(resource, f"rankings.{ranking}")
        self.declared = declared
        self.ranking = ranking

    def key(self, group: str, values: Sequence[Any], key: KeyValue | None, count: int) -> RankKey:
        shown = canonical(key) if key is not None else ""
        return RankKey(f"{group}\n{count}\n{shown}", group, values, key, count)

    def slot(self, key: RankKey) -> bytes:
        return slot_of(key.group)

    # --- Redis

    async def look(self, cache: Cache, known: Known, key: RankKey) -> Figure | None:
        generation = self.generation(known)
        if generation is None:
            return None
        figures = HeldRankings(cache, known.names, generation.id)
        descends = self.declared.descends
        if key.key is None:
            top = await figures.top(self.ranking, key.group, key.count, descends=descends)
            members = top.found
            if members is None or not await known.kept(generation, top.epoch):
                return None
            return Figure(await _made(lambda: _top_body(members.ranked()), key.count))
        look = await figures.standing(self.ranking, key.group, canonical(key.key), key.count, descends=descends)
        standing = look.found
        if standing is None or not await known.kept(generation, look.epoch):
            return None
        if standing.one is None:
            return Figure(None)
        return Figure(_one_body(standing.one, standing.around if key.count else None))

    # --- MongoDB

    @measured
    async def load(self, loader: Loader, keys: Sequence[RankKey], at_least: Version) -> Snapshot:
        """All at the version of the first."""
        bodies: dict[str, bytes] = {}
        version: Version = 0
        kinds: list[Kind] = []
        for key in keys:
            asking = _Asking(self, loader, key, at_least, version)
            body = await (asking.top() if key.key is None else asking.one(key.key))
            version = asking.version
            kinds += asking.kinds
            if body is not None:
                bodies[key.canonical] = body
        return Snapshot(version, bodies, kind=least_told(kinds))


class _Asking:
    """MongoDB is asked for one thing, in several queries at one version."""

    def __init__(
        self, ranks: RankingSource, loader: Loader, key: RankKey, at_least: Version, version: Version
    ) -> None:
        self.version = version
        self.kinds: list[Kind] = []
        self._ranks = ranks
        self._declared = ranks.declared
        self._loader = loader
        self._key = key
        self._at_least = at_least

    async def top(self) -> bytes:
        found = []
        for kind in queries.KINDS:
            declared, values = self._declared, self._key.values
            found += await self._scores(
                queries.ranking_top(self._ranks.collection, declared, values, kind, self._key.count)
            )
        count = self._key.count
        return await _made(lambda: _top_body(self._numbered(sorted(found)[:count], 1)), count)

    async def one(self, key: KeyValue) -> bytes | None:
        declared, values = self._declared, self._key.values
        command = {
            "find": self._ranks.collection,
            "filter": {"$and": [{"_id": key}, _any_kind(declared, values)]},
            "projection": {"_id": 1, declared.path: 1},
            "limit": 1,
        }
        found = await self._query(command)
        number = queries.score_of(declared, found.rows[0]) if found.rows else None
        if number is None:
            return None
        place = queries.scored(declared, found.rows[0]), key
        rank = 1
        for kind in queries.KINDS:
            stages = queries.ranking_count_before(declared, values, kind, place)
            counted = await self._query(aggregate(self._ranks.collection, stages, 1))
            rank += sum(row["n"] for row in counted.rows)
        mine = (self._kept(number), member_of(canonical(key)), canonical(key))
        (one,) = self._numbered([mine], rank)
        if not self._key.count:
            return _one_body(one, None)
        before, behind = await self._beside(place)
        return _one_body(one, self._numbered([*before, mine, *behind], rank - len(before)))

    async def _beside(self, place: queries.Place) -> tuple[list["_Placed"], list["_Placed"]]:
        before: list[_Placed] = []
        behind: list[_Placed] = []
        count, collection = self._key.count, self._ranks.collection
        for kind in queries.KINDS:
            declared, values = self._declared, self._key.values
            before += await self._scores(queries.ranking_before(collection, declared, values, kind, place, count))
            behind += await self._scores(queries.ranking_behind(collection, declared, values, kind, place, count))
        return sorted(before)[-count:], sorted(behind)[:count]

    async def _scores(self, command: Mapping[str, Any]) -> list["_Placed"]:
        found = await self._query(command)
        placed = []
        for document in found.rows:
            number = queries.score_of(self._declared, document)
            if number is not None:
                text = canonical(document["_id"])
                placed.append((self._kept(number), member_of(text), text))
        return placed

    async def _query(self, command: Mapping[str, Any]) -> Found:
        found = await self._loader.query(command, self._at_least, self.version)
        self.version = found.version
        self.kinds.append(found.kind)
        return found

    def _kept(self, number: float) -> float:
        return 0.0 - number if self._declared.descends else 0.0 + number

    def _numbered(self, placed: Sequence["_Placed"], first: int) -> list[Ranked]:
        pairs = [(member, kept) for kept, member, _ in placed]
        return ranked(pairs, first, descends=self._declared.descends)


_Placed = tuple[float, bytes, str]
"""A score as Redis would keep it, a member, a key: their order is the ranking's."""


def _any_kind(declared: RankingDeclaration, values: Sequence[Any]) -> dict[str, Any]:
    return {"$or": [queries.ranking_filter(declared, values, kind) for kind in queries.KINDS]}


async def _made(body: Callable[[], bytes], rows: int) -> bytes:
    """Thousands of rows would hold up the event loop for longer than anybody should wait."""
    return await asyncio.to_thread(body) if rows > FEW_ROWS else body()


def _top_body(items: Sequence[Ranked]) -> bytes:
    return b'{"items":[%b]}' % b",".join(map(_item, items))


def _one_body(one: Ranked, around: Sequence[Ranked] | None) -> bytes:
    if around is None:
        return _item(one)
    return b'%b,"around":[%b]}' % (_item(one)[:-1], b",".join(map(_item, around)))


def _item(one: Ranked) -> bytes:
    return bson_json.encode({"key": any_value_of(one.key), "score": _score(one), "rank": one.rank})


def _score(one: Ranked) -> int | float:
    whole = one.score.is_integer() and math.fabs(one.score) < 2**53
    return int(one.score) if whole else one.score
