"""Look-ups are declared by the fields that they go by, and are lists to everybody else."""

from typing import Any

import pytest
from pydantic import ValidationError

from neverstale.catalog import Resource
from neverstale.catalog.lookups import MOST_LOOKUPS


def declared(*paths: str, **more: Any) -> Resource:
    return Resource.model_validate({"name": "users", "key_type": "string", "lookups": paths, **more})


def test_a_look_up_is_kept_as_a_list_with_a_group_for_each_value() -> None:
    kept = declared("email", "address.zip").derived
    assert [(name, one.by) for name, one in kept.lists.items()] == [
        ("lookups.email", ("email",)),
        ("lookups.address.zip", ("address.zip",)),
    ]
    assert kept.tagged_paths == ("email", "address.zip")


def test_a_list_that_is_called_like_a_look_up_is_another_one() -> None:
    resource = declared("email", lists={"lookups": {"by": ["email"]}, "email": {}})
    assert set(resource.derived.lists) == {"lookups", "email", "lookups.email"}


@pytest.mark.parametrize(
    ("paths", "more", "problem"),
    [
        (["_id"], {}, "read by anyway"),
        (["email", "email"], {}, "twice"),
        (["$email"], {}, "is not a field"),
        (["legs.0"], {}, "is not a field"),
        ([""], {}, "is not a field"),
        (["e mail"], {}, "cannot stand in a path"),
        (["e/mail"], {}, "cannot stand in a path"),
        (["é"], {}, "cannot stand in a path"),
        (["x" * 129], {}, "cannot stand in a path"),
        (["address"], {"fields": {"address": "object"}}, "is an object"),
        ([f"f{number}" for number in range(MOST_LOOKUPS + 1)], {}, "at most 8"),
    ],
)
def test_what_cannot_be_looked_up_by_is_refused(paths: list[str], more: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        declared(*paths, **more)
