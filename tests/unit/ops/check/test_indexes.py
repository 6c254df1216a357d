"""Plans, as servers of several versions explain them."""

from typing import Any

import pytest

from neverstale.ops.check.indexes import judge

SCAN = {"stage": "COLLSCAN", "filter": {"a": {"$eq": 1}}}
FOUND = {"stage": "FETCH", "inputStage": {"stage": "IXSCAN", "keyPattern": {"a": 1}}}
FILTERED = FOUND | {"filter": {"$and": [{"b": {"$eq": 1}}, {"score": {"$not": {"$type": [4]}}}]}}


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda plan: {"queryPlanner": {"winningPlan": plan}},
        lambda plan: {"queryPlanner": {"winningPlan": {"queryPlan": plan, "slotBasedPlan": {"stages": "..."}}}},
        lambda plan: {"stages": [{"$cursor": {"queryPlanner": {"winningPlan": plan}}}, {"$group": {}}]},
        lambda plan: {
            "queryPlanner": {"winningPlan": {"stage": "SHARD_MERGE", "shards": [{"winningPlan": plan}]}},
            "command": {"find": "c", "filter": {"stage": "SORT"}},
        },
        lambda plan: {"queryPlanner": {"winningPlan": plan, "rejectedPlans": [SCAN, {"stage": "SORT"}]}},
    ],
)
def test_a_plan_is_found_in_whatever_it_is_wrapped(wrapped: Any) -> None:
    assert judge(wrapped(SCAN), ("a",)) == "scans the whole collection"
    assert judge(wrapped({"stage": "SORT", "inputStage": FOUND}), ("a",)) == "sorts in memory"
    assert judge(wrapped(FOUND), ("a",)) is None
    assert judge(wrapped(FILTERED), ("a", "b")) == "looks through documents of other groups for b"
    assert judge(wrapped(FILTERED), ("a",)) is None
