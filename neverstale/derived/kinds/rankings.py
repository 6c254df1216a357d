"""Rankings: documents by a score. Redis holds a sorted set for each group, and a hash that counts their members."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from neverstale.catalog.declarations import RankingDeclaration
from neverstale.derived.facts import Fact, Pick
from neverstale.derived.figures import FigureChange, FigureShape, SortedMoves
from neverstale.derived.kinds.kept import IsOurs, is_natural
from neverstale.derived.kinds.kind import DerivedKind, IndexedQuery, Places, by_of
from neverstale.derived.queries import Values
from neverstale.derived.rankings import queries
from neverstale.derived.rankings.comparison import RankingComparison
from neverstale.derived.rankings.held import HeldRankings
from neverstale.derived.rankings.moves import Moves
from neverstale.derived.rankings.scores import ScoreFact
from neverstale.derived.redis_names import BEYOND, DerivedNames, GenerationNames
from neverstale.redis.commands import Commands


@dataclass(frozen=True, slots=True)
class RankingShape(FigureShape):
    kind: ClassVar[str] = "rankings"
    has_sets: ClassVar[bool] = True

    name: str
    by: Pick
    score: int
    """Place of the fact that is the score."""

    @property
    def is_ours(self) -> IsOurs:
        return is_natural

    def hash(self, names: GenerationNames) -> bytes:
        return names.sizes(self.name)

    def set_of(self, names: GenerationNames, group: str) -> bytes:
        return names.ranking(self.name, group)

    def change(self, names: GenerationNames, moves: SortedMoves) -> FigureChange:
        moved = Moves(self.by, self.score, moves, partial(names.ranking, self.name))
        sizes, groups = self.hash(names), set[str | None](moved.sets)
        if moved.beyond:
            groups.add(None)
        return FigureChange(
            counts=[(sizes, BEYOND, moved.beyond)] if moved.beyond else (),
            sets=[(key, sizes, group) for group, key in moved.sets.items()],
            scores=moved.scores.items(),
            groups=groups,
        )


class Rankings(DerivedKind[RankingDeclaration]):
    def facts(self, name: str, declared: RankingDeclaration) -> Sequence[Fact]:
        return (ScoreFact(declared.path, declared.descends),)

    def shape(
        self, name: str, declared: RankingDeclaration, places: Places, shown: tuple[str, ...] | None
    ) -> RankingShape:
        (score,) = self.facts(name, declared)
        return RankingShape(name, by_of(declared, places), places[score])

    def query(
        self, collection: str, declared: RankingDeclaration, values: Values, projection: Mapping[str, Any] | None
    ) -> IndexedQuery:
        top = queries.ranking_top(collection, declared, values, "number", declared.size)
        return IndexedQuery(top, queries.ranking_index(declared), declared.by, is_needed=False)

    def comparison(
        self, name: str, declared: RankingDeclaration, redis: Commands, names: DerivedNames, generation: str
    ) -> RankingComparison:
        return RankingComparison(declared, HeldRankings(redis, names, generation), name)


KIND: Final = Rankings()
