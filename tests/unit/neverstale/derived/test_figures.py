"""Changes of figures for many documents at once are those for each alone, added up."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.catalog.declarations import CounterDeclaration, Declarations, RankingDeclaration
from neverstale.derived.contributions import LIMB
from neverstale.derived.figures import FigureChange, FigureShape, Move, sorted_out
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


def meaning(changes: Iterable[FigureChange]) -> tuple[Any, ...]:
    """What they do together: what is added to each field, what to the scores of each set, and the sets."""
    counts: Counter[tuple[bytes, str | bytes]] = Counter()
    scores: defaultdict[bytes, Counter[tuple[bytes, str]]] = defaultdict(Counter)
    sets: set[tuple[bytes, bytes, str]] = set()
    for change in changes:
        for key, field, amount in change.counts:
            counts[key, field] += amount
        for key, some in change.scores:
            scores[key].update(some)
        sets |= set(change.sets)
    return {at: amount for at, amount in counts.items() if amount}, dict(scores), sets


@pytest.mark.parametrize("figure", SHAPE.figures, ids=lambda one: one.name)
@given(st.lists(st.tuples(documents, documents), max_size=6))
def test_what_changes_of_many_is_the_sum_of_what_changes_of_each(
    figure: FigureShape, pairs: list[tuple[Any, Any]]
) -> None:
    moves = moves_of(pairs)
    together = figure.change(NAMES, sorted_out(moves))
    alone = [figure.change(NAMES, sorted_out([move])) for move in moves]
    assert meaning([together]) == meaning(alone)
    assert set(together.groups) <= {group for one in alone for group in one.groups}


@pytest.mark.parametrize("figure", SHAPE.figures, ids=lambda one: one.name)
@given(st.lists(st.tuples(documents, documents), max_size=6))
def test_what_came_and_went_again_leaves_nothing(figure: FigureShape, pairs: list[tuple[Any, Any]]) -> None:
    there = figure.change(NAMES, sorted_out(moves_of(pairs)))
    back = figure.change(NAMES, sorted_out(moves_of([(after, before) for before, after in pairs])))
    added, _, _ = meaning([there, back])
    assert added == {}
