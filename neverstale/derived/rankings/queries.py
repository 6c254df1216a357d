"""Queries: what MongoDB is asked for rankings."""

import datetime
import math
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128

from neverstale.catalog.declarations import RankingDeclaration
from neverstale.derived.groups import at_path
from neverstale.derived.queries import BYTES, Command, Filter, Stages, Values, equal, values_at
from neverstale.derived.rankings.scores import score

Kind = Literal["number", "date"]
KINDS: Final[tuple[Kind, ...]] = ("number", "date")
"""What can be a score. MongoDB compares values of one kind at a time, so each query asks for one; whoever wants both
merges what two of them find by `score_of`."""

_LARGEST: Final = Decimal128("1.797693134862315807937289714053034E+308")
"""Of what a double rounds to its largest: a score is a double."""
_SMALLEST: Final = Decimal128("-1.797693134862315807937289714053034E+308")
_FIRST_DATE, _LAST_DATE = DatetimeMS(-(2**63)), DatetimeMS(2**63 - 1)


Place: TypeAlias = tuple[Any, Any]
"""In a ranking: a number or a date, as it is in a document or as the ranking shows it, and a key."""


def ranking_filter(declared: RankingDeclaration, values: Values, kind: Kind) -> Filter:
    """The documents of one group that have a rank by a score of this kind."""
    low, high = (_SMALLEST, _LARGEST) if kind == "number" else (_FIRST_DATE, _LAST_DATE)
    bounds = {"$gte": low, "$lte": high, "$not": {"$type": "array"}}
    found: list[Filter] = [equal(declared.by, values), {declared.path: bounds}]
    if "." in declared.path:
        found.append({"$expr": {"$eq": [{"$size": values_at(declared.path)}, 1]}})
    return {"$and": [some for some in found if some]}


def ranking_top(
    collection: str, declared: RankingDeclaration, values: Values, kind: Kind, limit: int | None = None
) -> Command:
    """`find` for the keys and scores of the first documents, in the order of the ranking."""
    return _ranked(collection, declared, ranking_filter(declared, values, kind), limit, backwards=False)


def ranking_before(
    collection: str, declared: RankingDeclaration, values: Values, kind: Kind, place: Place, limit: int
) -> Command:
    """The nearest documents that rank before `place`, nearest first."""
    return _ranked(collection, declared, _beside(declared, values, kind, place, before=True), limit, backwards=True)


def ranking_behind(
    collection: str, declared: RankingDeclaration, values: Values, kind: Kind, place: Place, limit: int
) -> Command:
    """The nearest documents that rank behind `place`, nearest first."""
    return _ranked(collection, declared, _beside(declared, values, kind, place, before=False), limit, backwards=False)


def ranking_count_before(declared: RankingDeclaration, values: Values, kind: Kind, place: Place) -> Stages:
    """The pipeline that returns `{n}` (or no row for none): how many rank before a place."""
    return [{"$match": _beside(declared, values, kind, place, before=True)}, {"$count": "n"}]


def scored(declared: RankingDeclaration, document: Mapping[str, Any]) -> Any:
    """The value that the document is ranked by, as it is; `None`: not one."""
    found = at_path(document, declared.path)
    return found[0] if len(found) == 1 else None


def score_of(declared: RankingDeclaration, document: Mapping[str, Any]) -> float | None:
    """The score as Redis keeps it and the ranking shows it; `None`: the document has no rank."""
    text = score(scored(declared, document), descends=False)
    return float(text) if text else None


def ranking_index(declared: RankingDeclaration) -> dict[str, int]:
    """The index in whose order the top is read."""
    way = -1 if declared.descends else 1
    return dict.fromkeys(declared.by, 1) | {declared.path: way, "_id": 1}


def _ranked(
    collection: str, declared: RankingDeclaration, found: Filter, limit: int | None, *, backwards: bool
) -> Command:
    way = -1 if declared.descends else 1
    order = {declared.path: -way, "_id": -1} if backwards else {declared.path: way, "_id": 1}
    command: Command = {
        "find": collection,
        "filter": found,
        "sort": order,
        "projection": {"_id": 1, declared.path: 1},
        "collation": BYTES,
    }
    if limit is not None:
        command |= {"limit": limit, "batchSize": limit + 1}
    return command


def _beside(declared: RankingDeclaration, values: Values, kind: Kind, place: Place, *, before: bool) -> Filter:
    value, key = place
    found = ranking_filter(declared, values, kind)
    better = (declared.descends) == before
    # A value of this kind is compared as it is: the nearest double might rank on its other side.
    is_same = isinstance(value, datetime.datetime | DatetimeMS) == (kind == "date")
    number = float(score(value, descends=False))
    at = value if is_same else _as_kind(number, kind)
    strictly = {declared.path: {"$gt" if better else "$lt": at}}
    if not (is_same or _is_exact(number, kind)):
        return {"$and": [*found["$and"], strictly]}
    tied = {declared.path: {"$eq": at}, "_id": {"$lt" if before else "$gt": key}}
    return {"$and": [*found["$and"], {"$or": [strictly, tied]}]}


def _as_kind(number: float, kind: Kind) -> Any:
    if kind == "number":
        return int(number) if number.is_integer() and abs(number) < 2**63 else number
    return DatetimeMS(max(-(2**63), min(math.floor(number), 2**63 - 1)))


def _is_exact(number: float, kind: Kind) -> bool:
    return kind == "number" or (number.is_integer() and abs(number) < 2**63)
