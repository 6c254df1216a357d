"""Rankings: who leads, the rank of one document, and who is next to it.

{"items": [{"key": "2013-02-08:UA650:LGA", "score": 340, "rank": 1}, ...]}
{"key": "2013-02-08:UA650:LGA", "score": 340, "rank": 17, "around": [...]}
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from api.derived.figures import Figure
from api.derived.generations import Known
from neverstale.catalog import OnChange, Resource
from neverstale.declarations import RankingDeclaration
from neverstale.derived import queries, reading
from neverstale.derived.members import member_of
from neverstale.derived.reading import Ranked
from neverstale.errors import Outage
from neverstale.keys import KeyValue, any_value_of, canonical
from neverstale.mongodb import bson_json
from neverstale.mongodb.kinds import Kind, least_told
from neverstale.mongodb.loader import Found, Loader, Snapshot
from neverstale.redis.cache import Cache
from neverstale.versions import Version

FEW_ROWS: Final = 200
"""Of more, a thread makes the answer."""
_ATTEMPTS: Final = 3
"""To see a rank and its neighbours unchanged in between."""


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


class RankingSource:
    """One ranking (`api.derived.figures.Figure`)."""

    on_change: OnChange = "invalidate"
    stale_while_revalidate_seconds = 0

    def __init__(self, resource: Resource, ranking: str, declared: RankingDeclaration) -> None:
        self.resource = resource
        self.declared = declared
        self.ranking = ranking
        self.name = f"{resource.name}.rankings.{ranking}"
        self.collection = resource.collection
        self.ttl_seconds = resource.ttl_seconds
        self.absent_ttl_seconds = resource.absent_ttl_seconds
        self.digest = resource.derived.digests()[f"rankings.{ranking}"]

    def key(self, group: str, values: Sequence[Any], key: KeyValue | None, count: int) -> RankKey:
        shown = canonical(key) if key is not None else ""
        return RankKey(f"{group}\n{count}\n{shown}", group, values, key, count)

    # --- Redis

    async def look(self, cache: Cache, known: Known, key: RankKey) -> Figure | None:
        generation = known.for_counts(f"rankings.{self.ranking}", self.digest)
        if generation is None:
            return None
        names = known.names.of(generation.id)
        held = _Sets(cache, known, names.ranking(self.ranking, key.group), names.sizes(self.ranking), key.group)
        found = await (self._top(held, key.count) if key.key is None else self._one(held, key))
        if found is None or not await known.kept(generation, held.epoch):
            return None
        return found

    async def _top(self, held: "_Sets", count: int) -> Figure | None:
        replies = await held.read((b"ZRANGE", held.members, 0, count - 1, b"WITHSCORES"))
        return None if replies is None else Figure(await _made(lambda: _top_body(self._ranked(replies[0], 1)), count))

    async def _one(self, held: "_Sets", key: RankKey) -> Figure | None:
        assert key.key is not None
        member = member_of(canonical(key.key))
        asked = (b"ZRANK", held.members, member), (b"ZSCORE", held.members, member)
        low = high = 0
        for _ in range(_ATTEMPTS):
            replies = await held.read(*asked, (b"ZRANGE", held.members, low, high, b"WITHSCORES"))
            if replies is None:
                return None
            rank, score, pairs = replies
            if rank is None:
                return Figure(None)
            if not key.count or (low, high) == _around(rank, key.count):
                (one,) = self._ranked([member, score], rank + 1)
                beside = self._ranked(pairs, low + 1) if key.count else None
                return Figure(_one_body(one, beside))
            low, high = _around(rank, key.count)
        return None

    def _ranked(self, found: Sequence[Any], first: int) -> list[Ranked]:
        """How members and scores come depends on the protocol's version: in pairs, or one behind the other."""
        pairs = found if found and isinstance(found[0], list) else zip(found[::2], found[1::2], strict=True)
        scored = [(member, float(score)) for member, score in pairs]
        return reading.ranked(scored, first, descends=self.declared.descends)

    # --- MongoDB

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


class _Sets:
    """One group's sorted set, and what says that it is whole."""

    def __init__(self, cache: Cache, known: Known, members: bytes, sizes: bytes, group: str) -> None:
        self.members = members
        self.epoch = b""
        self._cache = cache
        self._known = known
        self._sizes = sizes
        self._group = group

    async def read(self, *commands: tuple[Any, ...]) -> list[Any] | None:
        """The answers, all of one moment; `None`: the set is not known to be whole."""
        # Names in bytes keep the client from reading anything into the replies within the transaction.
        replies = await self._cache.send(
            (b"MULTI",),
            *commands,
            (b"ZCARD", self.members),
            (b"HMGET", self._sizes, *reading.size_fields(self._group)),
            (b"EXEC",),
            self._known.epoch_command(),
        )
        *_, executed, self.epoch = replies
        if not isinstance(executed, list):
            raise Outage("redis", "EXEC")
        if wrong := next((reply for reply in executed if isinstance(reply, Exception)), None):
            # The server answers; what it holds is no sorted set, or no hash.
            self._cache.damage.met("derived", f"{self.members!r}: {wrong}")
            return None
        *answers, members, sizes = executed
        return answers if reading.is_whole(sizes, members) else None


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
            counted = await self._query(queries.aggregate(self._ranks.collection, stages, 1))
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
        return reading.ranked(pairs, first, descends=self._declared.descends)


_Placed = tuple[float, bytes, str]
"""A score as Redis would keep it, a member, a key: their order is the ranking's."""


def _any_kind(declared: RankingDeclaration, values: Sequence[Any]) -> dict[str, Any]:
    return {"$or": [queries.ranking_filter(declared, values, kind) for kind in queries.KINDS]}


def _around(rank: int, count: int) -> tuple[int, int]:
    return max(rank - count, 0), rank + count


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
