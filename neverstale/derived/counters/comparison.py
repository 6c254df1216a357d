"""A counter in Redis and in MongoDB, where an aggregation of MongoDB's own says what it must be."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Final

from neverstale.bson.texts import value_of
from neverstale.bson.values import RawObject
from neverstale.catalog.declarations import CounterDeclaration
from neverstale.derived.counters import queries
from neverstale.derived.counters.fields import Group
from neverstale.derived.counters.held import HeldCounters
from neverstale.derived.kinds.comparison import A_BATCH, MOST_GROUPS, Comparison
from neverstale.derived.queries import Command, Filter

_EXACT: Final = Context(prec=60, traps=[])
_TOLERANCE: Final = Decimal("1e-14")
"""Of sums, since MongoDB takes 15 digits of a double (`$toDecimal`)."""


@dataclass(frozen=True, slots=True)
class CounterDrift:
    documents: int
    sums: tuple[Decimal | None, ...]
    """`None`: unknown, a number in the group does not fit the scale."""

    def __str__(self) -> str:
        return ", ".join([f"{self.documents} documents", *(f"sum {one}" for one in self.sums)])


class CounterComparison(Comparison[CounterDrift]):
    nothing = CounterDrift(0, ())

    def __init__(self, declared: CounterDeclaration, held: HeldCounters, name: str) -> None:
        super().__init__(declared.by, held.key(name), held)
        self._declared = declared
        self._counters = held
        self._name = name

    async def in_redis(self, only: Collection[str]) -> Mapping[str, CounterDrift]:
        counted = await self._counted(only)
        known = {group: one for group, one in counted.items() if one.documents and is_told(group)}
        return {group: _as_counted(one, self._declared) for group, one in known.items()}

    async def _counted(self, only: Collection[str]) -> Mapping[str, Group]:
        sums = len(self._declared.sums)
        if 0 < len(only) <= MOST_GROUPS:
            return await self._counters.groups(self._name, sums, only)
        whole = (await self._counters.counter(self._name, sums)).found
        return (whole.groups() if whole is not None else None) or {}

    def command(self, collection: str, matching: Filter) -> Command:
        stages = [{"$match": matching}, *queries.counter_groups(self._declared, {})]
        cursor = {"batchSize": A_BATCH}
        return {"aggregate": collection, "pipeline": stages, "cursor": cursor, "allowDiskUse": True}

    async def in_mongodb(self, rows: AsyncIterator[dict[str, Any]]) -> Mapping[str, CounterDrift]:
        found: dict[str, CounterDrift] = {}
        async for row in rows:
            read = queries.read_counter_row(row, len(self._declared.by), len(self._declared.sums))
            if is_told(read.group):
                found[read.group] = _added(found.get(read.group), read)
        return found

    def alike(self, one: CounterDrift, other: CounterDrift) -> bool:
        pairs = zip(one.sums, other.sums, strict=False)
        return one.documents == other.documents and all(_nearly(*pair) for pair in pairs)


def _nearly(one: Decimal | None, other: Decimal | None) -> bool:
    if one is None or other is None:
        return True
    if not (one.is_finite() and other.is_finite()):
        return one == other
    return abs(one - other) <= _TOLERANCE * max(abs(one), abs(other))


def is_told(group: str) -> bool:
    """Whether MongoDB's aggregations tell a group from others: an object with two fields of one name they do not."""
    return "x:" not in group or not any(map(_has_odd_names, map(value_of, group.split("|"))))


def _has_odd_names(value: Any) -> bool:
    if isinstance(value, RawObject):
        return True
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_has_odd_names, inside))


def _added(held: CounterDrift | None, row: queries.CounterRow) -> CounterDrift:
    """Rows that are one group of ours, together."""
    if held is None:
        return CounterDrift(row.documents, row.sums)
    sums = [None if one is None else _EXACT.add(one, more) for one, more in zip(held.sums, row.sums, strict=True)]
    return CounterDrift(held.documents + row.documents, tuple(sums))


def _as_counted(group: Group, declared: CounterDeclaration) -> CounterDrift:
    scales = [one.scale for one in declared.sums.values()]
    sums = [
        None if one.scaled is None else _EXACT.scaleb(Decimal(one.scaled), -scale)
        for one, scale in zip(group.sums, scales, strict=True)
    ]
    return CounterDrift(group.documents, tuple(sums))
