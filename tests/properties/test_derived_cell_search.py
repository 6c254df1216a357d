"""No interleaving of two partitions' consumers in a derived cell lets a watermark say more than was applied there."""

from typing import Any

import pytest

from neverstale.redis.scripts import Name
from tests.properties.derived_cell_model import DerivedCell
from tests.properties.search import explore
from tests.support.lua_redis import patched

ONE_EACH = (1, 1)


def test_each_partition_has_an_account_of_its_own_and_no_watermark_says_too_much() -> None:
    found = explore(DerivedCell(records=ONE_EACH))
    assert found.trace is None, "\n".join(found.trace or ())
    assert found.states == 6_170


@pytest.mark.parametrize(
    "dropped", [{"shared_account": True}, {"asks_first": False}], ids=["accounts apart", "asking before marking"]
)
def test_without_a_rule_of_the_consumers_a_watermark_says_too_much(dropped: dict[str, Any]) -> None:
    assert explore(DerivedCell(**dropped)).trace is not None


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("reach", "~= ARGV[1] then", "== 'never' then"),
        ("reach", "elseif tonumber(held) < tonumber(first) then", "elseif false then"),
    ],
    ids=["whether this Redis took the batch", "what is lacking"],
)
def test_without_a_rule_of_the_account_a_watermark_says_too_much(name: Name, old: str, new: str) -> None:
    assert explore(DerivedCell(scripts={name: patched(name, old, new)})).trace is not None
