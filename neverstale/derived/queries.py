"""Queries: what MongoDB is asked for what is derived, from a declaration and the values of its group.

Used where Redis cannot answer, for pages, to explain queries, and to compare what Redis holds with MongoDB. All
answer what the contributions count (see `neverstale.derived.groups` and `shape`): missing is `null`, each distinct
element of an array is a group, only numbers are summed, only finite numbers and dates have a rank.

Nothing here talks to a server. Commands lack `readConcern`, which the caller adds.
"""

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128

from neverstale.bson.texts import text_of
from neverstale.bson.values import under
from neverstale.catalog.declarations import CounterDeclaration, ListDeclaration, RankingDeclaration
from neverstale.derived.groups import at_path, group
from neverstale.derived.lists.positions import after
from neverstale.derived.shape import score

Filter: TypeAlias = dict[str, Any]
Command: TypeAlias = dict[str, Any]
Stages: TypeAlias = list[dict[str, Any]]
Values: TypeAlias = Sequence[Any]
"""One for each field of `by`, in order, as BSON types."""

BYTES: Final = {"locale": "simple"}
"""Strings compare byte by byte, whatever the collection's collation is: so do groups in Redis."""
SORT_KEY: Final = "__neverstale_sort_key"
"""Field that a page's documents carry besides their own: the values that they are sorted by."""


def aggregate(collection: str, stages: Stages, rows: int) -> Command:
    """The command that runs a pipeline and returns at most so many rows in one reply."""
    return {"aggregate": collection, "pipeline": stages, "cursor": {"batchSize": rows + 1}, "collation": BYTES}


# --- lists


def list_filter(declared: ListDeclaration, values: Values) -> Filter:
    """The documents of one group of a list."""
    return {**equal(declared.by, values), **{path: is_value(constant) for path, constant in declared.where.items()}}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which documents of a group a page shows, in the order of the list."""

    position: Values | None = None
    """The sort key of the document that it begins behind; `None`: it begins with the first."""
    back: bool = False
    """It ends before the position instead, and is read backwards: nearest first."""
    inclusive: bool = False
    """What has this very position belongs to it, too."""
    limit: int | None = None
    """Documents; `None`: `page_size`."""
    span: Mapping[str, Any] = field(default_factory=dict)
    """Of the first sorted field: `gte`, `gt`, `lte`, `lt` -> value. Only values of its type are found."""


WHOLE: Final = Stretch()


def list_page(
    collection: str,
    declared: ListDeclaration,
    values: Values,
    stretch: Stretch = WHOLE,
    projection: Mapping[str, Any] | None = None,
) -> Command:
    """`find` for a page and one document more.

    Behind a position the filter is an `$or` whose branches each carry the group: each is one scan of the list's index
    in its order (or against it), which the server merges.
    """
    found = list_filter(declared, values)
    order = [(path, -way) for path, way in declared.order] if stretch.back else declared.order
    if stretch.span:
        first = declared.order[0][0]
        found = {"$and": [*_each(found), *({first: under(f"${by}", value)} for by, value in stretch.span.items())]}
    if stretch.position is not None:
        behind = after(order, stretch.position, inclusive=stretch.inclusive)
        found = {"$or": [{"$and": [*_each(found), *branch]} for branch in behind]}
    limit = stretch.limit or declared.page_size
    return {
        "find": collection,
        "filter": found,
        "sort": dict(order),
        "projection": {**(projection or {}), SORT_KEY: {"$meta": "sortKey"}},
        "limit": limit + 1,
        "batchSize": limit + 2,  # so that the server closes the cursor by itself
        "collation": BYTES,
    }


def _each(found: Filter) -> list[Filter]:
    return [{path: condition} for path, condition in found.items()]


def list_index(declared: ListDeclaration) -> dict[str, int]:
    """The index in whose order a page is read: without it, every page sorts the whole group."""
    return dict.fromkeys((*declared.by, *declared.where), 1) | {
        path: way for path, way in declared.order if path not in declared.by and path not in declared.where
    }


# --- look-ups


def lookup(collection: str, path: str, value: Any, projection: Mapping[str, Any] | None = None) -> Command:
    """`find` for the document that has a value, and for another one if there is: then the value is not unique."""
    command: Command = {
        "find": collection,
        "filter": {path: is_value(value)},
        "limit": 2,
        "batchSize": 3,  # so that the server closes the cursor by itself
        "collation": BYTES,
    }
    return command if projection is None else command | {"projection": dict(projection)}


# --- counters


def counter_groups(
    declared: CounterDeclaration, values: Mapping[str, Any], by: Sequence[str] | None = None, limit: int | None = None
) -> Stages:
    """The pipeline that returns a row for each group; `read_counter_row` reads it.

    `values`: the groups that have these values; `by`: the fields that make the rows (default: all that have no
    value). Over fields that are in neither the groups are added up.
    """
    kept = [path for path in declared.by if path not in values] if by is None else list(by)
    stages: Stages = [{"$match": _counted(values)}] if values else []
    unwound = [path for path in declared.by if path not in values]
    for i, path in enumerate(unwound):
        stages.append({"$set": {f"g{i}": {"$setUnion": [_or_null(elements(path))]}}})
    wanted: dict[str, Any] = {f"k{kept.index(path)}": f"$g{i}" for i, path in enumerate(unwound) if path in kept}
    wanted |= {f"k{kept.index(path)}": under("$literal", value) for path, value in values.items() if path in kept}
    summed = {f"s{i}": only(one.field) for i, one in enumerate(declared.sums.values())}
    stages.append({"$project": {"_id": 0, **{f"g{i}": 1 for i in range(len(unwound))}, **summed}})
    stages += [{"$unwind": f"$g{i}"} for i in range(len(unwound))]
    totals: dict[str, Any] = {"n": {"$sum": 1}}
    for i in range(len(summed)):
        number = {"$isNumber": f"$s{i}"}
        totals[f"s{i}"] = {"$sum": {"$cond": [number, {"$toDecimal": f"$s{i}"}, Decimal128("0")]}}
        totals[f"m{i}"] = {"$sum": {"$cond": [number, 1, 0]}}
    stages.append({"$group": {"_id": wanted or None, **totals}})
    if limit is not None:
        stages.append({"$limit": limit})
    return stages


@dataclass(frozen=True, slots=True)
class CounterRow:
    values: tuple[Any, ...]
    """Of the fields that make the rows."""
    documents: int
    sums: tuple[Decimal, ...]
    """As MongoDB adds them: doubles count with 15 significant digits (`$toDecimal`), all else exactly."""
    numbers: tuple[int, ...]
    """For each sum, how many documents hold a number."""

    @property
    def group(self) -> str:
        """The name of the group, as in Redis."""
        return group([text_of(value) for value in self.values])


def read_counter_row(row: Mapping[str, Any], by: int, sums: int) -> CounterRow:
    """A row of `counter_groups` with so many fields and sums."""
    values = tuple(row["_id"].get(f"k{i}") for i in range(by)) if by else ()
    totals = tuple(_decimal(row[f"s{i}"]) for i in range(sums))
    return CounterRow(values, int(row["n"]), totals, tuple(int(row[f"m{i}"]) for i in range(sums)))


def counter_index(declared: CounterDeclaration) -> dict[str, int]:
    """The index that finds the documents of one group; without it each answer reads the whole collection."""
    return dict.fromkeys(declared.by, 1)


# --- rankings

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


# --- expressions


def elements(path: str) -> Any:
    """Expression: everything that a path finds in a document, arrays taken apart; what `groups.fact` counts."""
    return _found(path, "$", 0, apart=True)


def values_at(path: str) -> Any:
    """Expression: everything that a path finds; what `groups.at_path` answers."""
    return _found(path, "$", 0, apart=False)


def only(path: str) -> Any:
    """Expression: the one value at a path; an array of several is none."""
    if "." not in path:
        return f"${path}"
    return {"$let": {"vars": {"v": values_at(path)}, "in": _one_of("$$v")}}


def _one_of(array: str) -> Any:
    return {"$cond": [{"$eq": [{"$size": array}, 1]}, {"$first": array}, None]}


def _found(path: str, inside: str, depth: int, *, apart: bool) -> Any:
    """`inside`: the beginning of a reference to the object that the path is looked up in."""
    name, _, rest = path.partition(".")
    value = f"{inside}{name}"
    alone = [{"$ifNull": [value, None]}]
    if not rest:
        return {"$cond": [{"$isArray": value}, value, alone]} if apart else alone
    objects, one = f"o{depth}", f"e{depth}"
    inner = _found(rest, f"$${one}.", depth + 1, apart=apart)
    kept = {"$filter": {"input": value, "as": one, "cond": {"$eq": [{"$type": f"$${one}"}, "object"]}}}
    each = {"$map": {"input": f"$${objects}", "as": one, "in": inner}}
    joined = {"$reduce": {"input": each, "initialValue": [], "in": {"$concatArrays": ["$$value", "$$this"]}}}
    many = {"$let": {"vars": {objects: kept}, "in": {"$cond": [{"$eq": [f"$${objects}", []]}, [None], joined]}}}
    single = {"$let": {"vars": {one: value}, "in": inner}}
    is_object = {"$eq": [{"$type": value}, "object"]}
    return {"$cond": [{"$isArray": value}, many, {"$cond": [is_object, single, [None]]}]}


def _or_null(array: Any) -> Any:
    """Expression: an array with `null` for what is undefined: they are one group."""
    return {"$map": {"input": array, "as": "one", "in": {"$ifNull": ["$$one", None]}}}


def equal(paths: Sequence[str], values: Values) -> Filter:
    """The documents that have these values at these paths."""
    return {path: is_value(value) for path, value in zip(paths, values, strict=True)}


def is_value(value: Any) -> Mapping[str, Any]:
    """Condition: a field is this, or an array with it.

    `$eq` takes a value as it is, even one that looks like an operator. `null` matches what is missing, too. A whole
    array would be found as well as one with such an array in it; a group of it has only the latter.
    """
    return {"$elemMatch": under("$eq", value)} if isinstance(value, list) else under("$eq", value)


def _counted(values: Mapping[str, Any]) -> Filter:
    """`equal`, but also for what is counted as null at a path that an array ends, which a query does not find."""
    lost = [path for path, value in values.items() if value is None and "." in path]
    if not lost:
        return equal(tuple(values), tuple(values.values()))
    found: list[Filter] = [{path: is_value(value)} for path, value in values.items() if path not in lost]
    for path in lost:
        found += [{"$or": [{path: None}, {path: {"$exists": False}}]}, _is_null(path)]
    return {"$and": found}


def _is_null(path: str) -> Filter:
    return {"$expr": {"$in": [None, _or_null(elements(path))]}}


def _decimal(value: Any) -> Decimal:
    number = value.to_decimal() if isinstance(value, Decimal128) else Decimal(value)
    return Decimal("NaN") if number.is_nan() else number
