"""Declarations of lists, counters and rankings."""

from typing import Any

import pytest
from pydantic import ValidationError

from neverstale.catalog import declarations
from neverstale.catalog.declarations import CounterDeclaration, Declarations, ListDeclaration, RankingDeclaration

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"lists": {"l": {"by": ["a", "a"]}}}, "names a twice"),
    ({"lists": {"l": {"by": ["$a"]}}}, "'$a' is not a field"),
    ({"lists": {"l": {"by": ["a.0.b"]}}}, "'a.0.b' is not a field"),
    ({"lists": {"l": {"by": ["a", "b", "c", "d", "e"]}}}, "at most 4"),
    ({"lists": {"l": {"by": ["a"], "where": {"a": 1}}}}, "a is both a constant and a filter"),
    ({"lists": {"l": {"sort": ["a", "-a"]}}}, "names a twice"),
    ({"lists": {"l": {"sort": ["_id", "a"]}}}, "_id is not the last field"),
    ({"lists": {"l": {"page_size": 0}}}, "greater than or equal to 1"),
    ({"lists": {"l": {"where": {"a": [1]}}}}, "valid"),
    ({"lists": {"l": {"limit": 1}}}, "Extra inputs"),
    ({"counters": {"c": {"sums": {"Bad": {"field": "a"}}}}}, "'Bad' is not a name"),
    ({"counters": {"c": {"sums": {"s": {"field": "a", "scale": 19}}}}}, "less than or equal to 18"),
    ({"counters": {"c": {"sums": {"s": {"field": ""}}}}}, "is not a field"),
    ({"rankings": {"r": {"by": ["a"]}}}, "Field required"),
    ({"rankings": {"r": {"score": "a", "size": 10_001}}}, "less than or equal to 10000"),
]


@pytest.mark.parametrize(("declared", "problem"), WRONG, ids=lambda value: str(value)[:60])
def test_a_declaration_that_could_not_work_is_refused(declared: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem.replace("$", r"\$")):
        Declarations.model_validate(declared)


def test_no_two_documents_share_a_place_in_a_list() -> None:
    assert ListDeclaration(sort=("-day",)).order == (("day", -1), ("_id", 1))
    assert ListDeclaration(sort=("day", "-_id")).order == (("day", 1), ("_id", -1))
    assert ListDeclaration().order == (("_id", 1),)


def test_a_ranking_descends_unless_it_says_otherwise() -> None:
    assert RankingDeclaration(score="delay").descends
    assert not RankingDeclaration(score="-delay").descends
    assert RankingDeclaration(score="-delay").path == "delay"


def test_the_text_of_declarations_makes_the_same_declarations() -> None:
    declared = Declarations.model_validate(
        {
            "shown": ["a", "b"],
            "lists": {"l": {"by": ["a"], "where": {"b": True, "c": 1, "d": 1.0, "e": "x"}, "sort": ["-a"]}},
            "counters": {"c": {"by": ["a"], "sums": {"s": {"field": "b", "scale": 2}}}},
            "rankings": {"r": {"by": ["a"], "score": "-b"}},
        }
    )
    again = Declarations.model_validate_json(declared.text)
    assert again == declared
    assert again.text == declared.text
    assert [type(value) for value in again.lists["l"].where.values()] == [bool, int, float, str]


def test_a_digest_changes_with_the_declaration() -> None:
    digests = {
        CounterDeclaration(by=("a",)).digest,
        CounterDeclaration(by=("b",)).digest,
        RankingDeclaration(by=("a",), score="a").digest,
        ListDeclaration(by=("a",)).digest,
        ListDeclaration(by=("a",), page_size=10).digest,
    }
    assert len(digests) == 5


def test_nothing_declared_is_nothing() -> None:
    assert not Declarations()
    assert Declarations(counters={"c": CounterDeclaration()})


def test_a_kind_that_has_come_later_changes_no_text_where_nothing_of_it_is_declared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or its release would build everything again, and the one before it could read no register."""
    some, all_three = Declarations(lists={"l": ListDeclaration()}), '"rankings":{}'
    assert all_three in some.text
    monkeypatch.setattr(declarations, "_SPELLED", frozenset(("lists", "counters")))
    assert "rankings" not in some.text
    assert Declarations.model_validate_json(some.text) == some
    assert "rankings" in Declarations(rankings={"r": RankingDeclaration(score="a")}).text
