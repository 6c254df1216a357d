"""Counters: how many documents each group has, and the sums of their fields. Redis holds them in one hash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from neverstale.catalog.declarations import CounterDeclaration
from neverstale.derived.counters import queries
from neverstale.derived.counters.comparison import CounterComparison
from neverstale.derived.counters.differences import counted, group_of, unsummable_of
from neverstale.derived.counters.fields import is_count
from neverstale.derived.counters.held import HeldCounters
from neverstale.derived.counters.sums import SumFact
from neverstale.derived.facts import Fact, Pick
from neverstale.derived.figures import FigureChange, FigureShape, SortedMoves
from neverstale.derived.kinds.kept import IsOurs
from neverstale.derived.kinds.kind import DerivedKind, IndexedQuery, Places, by_of
from neverstale.derived.queries import BYTES, Values
from neverstale.derived.redis_names import DerivedNames, GenerationNames
from neverstale.redis.commands import Commands


@dataclass(frozen=True, slots=True)
class CounterShape(FigureShape):
    kind: ClassVar[str] = "counters"

    name: str
    by: Pick
    sums: tuple[int, ...]
    """Places of the facts that are summed."""

    @property
    def is_ours(self) -> IsOurs:
        return is_count

    def hash(self, names: GenerationNames) -> bytes:
        return names.counter(self.name)

    def change(self, names: GenerationNames, moves: SortedMoves) -> FigureChange:
        fields, key = list(counted(self.by, self.sums, moves)), self.hash(names)
        return FigureChange(
            counts=[(key, field, amount) for field, amount in fields],
            groups={group_of(field) for field, _ in fields},
            unsummable=unsummable_of(fields),
        )


class Counters(DerivedKind[CounterDeclaration]):
    def facts(self, name: str, declared: CounterDeclaration) -> Sequence[Fact]:
        return [SumFact(one.field, one.scale) for one in declared.sums.values()]

    def shape(
        self, name: str, declared: CounterDeclaration, places: Places, shown: tuple[str, ...] | None
    ) -> CounterShape:
        sums = tuple(places[fact] for fact in self.facts(name, declared))
        return CounterShape(name, by_of(declared, places), sums)

    def query(
        self, collection: str, declared: CounterDeclaration, values: Values, projection: Mapping[str, Any] | None
    ) -> IndexedQuery | None:
        if not declared.by:
            return None
        stages = queries.counter_groups(declared, dict(zip(declared.by, values, strict=True)))
        command = {"aggregate": collection, "pipeline": stages, "cursor": {}, "collation": BYTES}
        return IndexedQuery(command, queries.counter_index(declared), declared.by, is_needed=False)

    def comparison(
        self, name: str, declared: CounterDeclaration, redis: Commands, names: DerivedNames, generation: str
    ) -> CounterComparison:
        return CounterComparison(declared, HeldCounters(redis, names, generation), name)


KIND: Final = Counters()
