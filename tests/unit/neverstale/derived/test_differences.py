"""Differences of many documents at once are those of each alone, added up."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from neverstale.catalog.declarations import CounterDeclaration, Declarations, RankingDeclaration
from neverstale.derived.contributions import LIMB
from neverstale.derived.differences import Move, Moves, counted, sorted_out
from neverstale.derived.redis_names import DerivedNames
from neverstale.derived.shape import Shape

SHAPE = Shape(
    Declarations(
        counters={
            "all": CounterDeclaration.model_validate({"sums": {"n": {"field": "n"}}}),
            "by": CounterDeclaration.model_validate({"by": ["g", "h"], "sums": {"n": {"field": "n", "scale": 2}}}),
        },
        rankings={
            "top": RankingDeclaration.model_validate({"by": ["g"], "score": "n"}),
            "low": RankingDeclaration.model_validate({"score": "-n"}),
        },
    )
)
NAMES = DerivedNames("ns", "r").of("g1")
groups = st.sampled_from(["a", "b", ["a", "b"], [*range(40)], None])
numbers = st.one_of(st.integers(-5, 5), st.sampled_from([LIMB, -LIMB, 2**62, 0.5, 0.001, "none", None]))
documents = st.none() | st.fixed_dictionaries({"g": groups, "h": st.sampled_from(["x", "y"]), "n": numbers})


def moves_of(pairs: list[tuple[Any, Any]]) -> list[Move]:
    facts = [[None if one is None else SHAPE.facts([one])[0] for one in pair] for pair in pairs]
    return [(f"s:{number}", before, after) for number, (before, after) in enumerate(facts)]


@given(st.lists(st.tuples(documents, documents), max_size=6))
def test_what_is_counted_of_many_is_the_sum_of_what_is_counted_of_each(pairs: list[tuple[Any, Any]]) -> None:
    moves = moves_of(pairs)
    for shape in SHAPE.counters:
        alone: Counter[str | bytes] = Counter()
        for move in moves:
            for field, amount in counted(shape, sorted_out([move])):
                alone[field] += amount
        assert dict(counted(shape, sorted_out(moves))) == {field: amount for field, amount in alone.items() if amount}


@given(st.lists(st.tuples(documents, documents), max_size=6))
def test_what_moves_of_many_is_what_moves_of_each(pairs: list[tuple[Any, Any]]) -> None:
    moves = moves_of(pairs)
    for shape in SHAPE.rankings:
        together = Moves(shape, NAMES, sorted_out(moves))
        alone = [Moves(shape, NAMES, sorted_out([move])) for move in moves]
        assert together.beyond == sum(one.beyond for one in alone)
        assert {key: Counter(some) for key, some in together.scores.items()} == {
            key: sum((Counter(one.scores.get(key, ())) for one in alone), Counter())
            for key in dict.fromkeys(key for one in alone for key in one.scores)
        }
        assert together.sets == {group: key for one in alone for group, key in one.sets.items()}
