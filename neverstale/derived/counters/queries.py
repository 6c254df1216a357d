"""Queries: what MongoDB is asked for counters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bson.decimal128 import Decimal128

from neverstale.bson.texts import text_of
from neverstale.bson.values import under
from neverstale.catalog.declarations import CounterDeclaration
from neverstale.derived.groups import group
from neverstale.derived.queries import Filter, Stages, elements, equal, is_value, only, or_null


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
        stages.append({"$set": {f"g{i}": {"$setUnion": [or_null(elements(path))]}}})
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
    return {"$expr": {"$in": [None, or_null(elements(path))]}}


def _decimal(value: Any) -> Decimal:
    number = value.to_decimal() if isinstance(value, Decimal128) else Decimal(value)
    return Decimal("NaN") if number.is_nan() else number
