"""Which counter tells how many documents a list's group has."""

from typing import Any

import pytest

from neverstale.api.derived.counters import counters_of
from neverstale.api.derived.totals import totals_of
from neverstale.catalog import Catalog


@pytest.mark.parametrize(
    ("listed", "counters", "found"),
    [
        ({"by": ["a"]}, {"one": ["a"]}, "one"),
        ({"by": ["a"]}, {"more": ["a", "b"], "other": ["b"], "none": []}, None),
        ({"by": ["a", "b"]}, {"turned": ["b", "a"]}, "turned"),
        ({"by": ["a"], "where": {"c": False}}, {"without": ["a"], "whole": ["a", "c"]}, "whole"),
        ({}, {"all": []}, "all"),
    ],
)
def test_a_counter_of_the_same_documents_tells(
    listed: Any, counters: dict[str, list[str]], found: str | None
) -> None:
    declared = {
        "key_type": "string",
        "lists": {"l": listed},
        "counters": {name: {"by": by} for name, by in counters.items()},
    }
    resource = Catalog.model_validate({"database": "d", "resources": {"r": declared}}).resources["r"]
    totals = totals_of(resource, "l", counters_of(resource))
    assert (None if totals is None else totals.counts.counter) == found


def test_the_groups_values_and_the_lists_constants_are_asked_for() -> None:
    declared = {
        "key_type": "string",
        "lists": {"l": {"by": ["a", "b"], "where": {"c": False}}},
        "counters": {"n": {"by": ["c", "b", "a"]}},
    }
    resource = Catalog.model_validate({"database": "d", "resources": {"r": declared}}).resources["r"]
    totals = totals_of(resource, "l", counters_of(resource))
    assert totals is not None
    assert totals.key(["x", None]).values == {"a": "x", "b": None, "c": False}
    assert totals.key(["x", None]).single
