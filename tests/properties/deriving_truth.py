"""What MongoDB itself says of everything derived, and what Redis keeps of it, in the same shape."""

from decimal import Decimal
from typing import Any, Final, TypeAlias

from bson.decimal128 import Decimal128

from neverstale.bson.texts import text_of
from neverstale.derived.counters.held import all_groups
from neverstale.derived.generations import Generation
from neverstale.derived.groups import group
from neverstale.derived.rankings.held import is_whole, ranked, size_fields
from neverstale.keys import canonical
from tests.properties.deriving_world import GROUPS, KEYS, LISTS, World, query, shown

Sums: TypeAlias = tuple[int, int, Decimal | None, Decimal | None]
"""Documents, numbers, their sum and their average; `None`: it does not fit, or there is none."""

_IS_NUMBER: Final = {"$isNumber": "$v"}
_NUMBER: Final = {"$cond": [_IS_NUMBER, {"$toDecimal": "$v"}, None]}
_FITS: Final = {
    "$or": [
        {"$eq": ["$number", None]},
        {
            "$and": [
                {"$lt": [{"$abs": "$number"}, Decimal128(str(2**63 // 100))]},
                {"$eq": [{"$trunc": ["$number", 2]}, "$number"]},
            ]
        },
    ]
}
_FIGURES: Final[dict[str, Any]] = {
    "documents": {"$sum": 1},
    "numbers": {"$sum": {"$cond": [_IS_NUMBER, 1, 0]}},
    "sum": {"$sum": "$number"},
    "average": {"$avg": "$number"},
    "beyond": {"$sum": {"$cond": [_FITS, 0, 1]}},
}
_OR_NULL: Final = {"$ifNull": ["$g", None]}
_EACH_GROUP: Final[list[dict[str, Any]]] = [
    {"$set": {"by": {"$cond": [{"$isArray": "$g"}, {"$setUnion": ["$g", []]}, [_OR_NULL]]}, "number": _NUMBER}},
    {"$unwind": "$by"},
    {"$group": {"_id": "$by", **_FIGURES}},
]
_TOTAL: Final[list[dict[str, Any]]] = [{"$set": {"number": _NUMBER}}, {"$group": {"_id": None, **_FIGURES}}]
PLACES: Final = 12
"""Averages are compared to so many decimal places: MongoDB's have 34 digits."""


def counted(world: World) -> dict[str, dict[str, Sums]]:
    """Counter -> group -> figures, by MongoDB."""
    rows = {
        "by_group": {group([text_of(row["_id"])]): row for row in world.documents.aggregate(_EACH_GROUP)},
        "total": {group([]): row for row in world.documents.aggregate(_TOTAL)},
    }
    return {name: {by: _sums(row) for by, row in groups.items()} for name, groups in rows.items()}


def _sums(row: dict[str, Any]) -> Sums:
    documents, numbers = int(row["documents"]), int(row["numbers"])
    if row["beyond"]:
        return documents, numbers, None, None
    total = Decimal(str(row["sum"])).quantize(Decimal("0.01"))
    return documents, numbers, total, _rounded(Decimal(str(row["average"])) if numbers else None)


def _rounded(average: Decimal | None) -> Decimal | None:
    return None if average is None else round(average, PLACES)


async def kept_counts(world: World, generation: Generation) -> dict[str, dict[str, Sums] | None]:
    """The same as Redis keeps it; `None`: not known."""
    names = world.store.names.of(generation.id)
    kept: dict[str, dict[str, Sums] | None] = {}
    for name, declared in generation.shape.declared.counters.items():
        (fields,) = await world.cache.send(("HGETALL", names.counter(name)))
        groups = all_groups(fields, len(declared.sums))
        kept[name] = None if groups is None else {}
        for by, found in (groups or {}).items():
            (one,) = found.sums
            total = None if one.scaled is None else Decimal(one.scaled) / 100
            average = None if total is None or not one.numbers else Decimal(one.scaled or 0) / 100 / one.numbers
            kept.setdefault(name, {})[by] = (found.documents, one.numbers, total, _rounded(average))  # type: ignore[index]
    return kept


Ranks: TypeAlias = list[tuple[str, float, int]]
"""Canonical key, score and rank."""


def rankings(world: World) -> dict[str, Ranks]:
    """Every group of every ranking, by MongoDB."""
    has_score = {"v": {"$type": "number"}}
    found = {f"highest of {value!r}": _ranked(world, {"g": value} | has_score, -1) for value in GROUPS}
    return found | {"lowest": _ranked(world, has_score, 1)}


def _ranked(world: World, filter_: dict[str, Any], way: int) -> Ranks:
    rows = world.documents.find(filter_, {"v": 1}).sort([("v", way), ("_id", 1)])
    return [(canonical(row["_id"]), float(str(row["v"])), rank) for rank, row in enumerate(rows, 1)]


async def kept_rankings(world: World, generation: Generation) -> dict[str, Ranks | None]:
    """The same as Redis keeps it; `None`: not known."""
    texts = {f"highest of {value!r}": group([text_of(value)]) for value in GROUPS}
    kept = {name: await _kept_ranks(world, generation, "highest", text) for name, text in texts.items()}
    return kept | {"lowest": await _kept_ranks(world, generation, "lowest", group([]))}


async def _kept_ranks(world: World, generation: Generation, name: str, by: str) -> Ranks | None:
    names, declared = world.store.names.of(generation.id), generation.shape.declared.rankings[name]
    found, sizes = await world.cache.send(
        ("ZRANGE", names.ranking(name, by), 0, -1, "WITHSCORES"),
        ("HMGET", names.sizes(name), *size_fields(by)),
    )
    pairs = [(member, float(score)) for member, score in found]
    if not is_whole(sizes, len(pairs)):
        return None
    return [(one.key, one.score, one.rank) for one in ranked(pairs, 1, descends=declared.descends)]


def pages_agree(world: World) -> None:
    """What this machine takes for a page is MongoDB's answer."""
    for one in LISTS:
        found = {row["_id"] for row in world.documents.find(query(one), {"_id": 1})}
        expected = {key for key in KEYS if shown(world.at(key, 2**64 - 1), one) is not None}
        assert found == expected, f"MongoDB's page of {one}"
