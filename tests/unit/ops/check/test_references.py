"""What `neverstale check` says of fields that refer to other resources."""

from typing import Any

import pytest
from bson.objectid import ObjectId

from neverstale.keys import KeyType
from neverstale.ops.check.references import judge


@pytest.mark.parametrize(
    ("key_type", "values", "level", "part"),
    [
        ("string", ["UA", "DL", None], "ok", "2 values"),
        ("string", [], "ok", "0 values"),
        ("string", [["UA", "DL"], []], "ok", "2 values"),
        ("int", [1, 2.0], "ok", "2 values"),
        ("string", ["UA", 7], "warning", "1 of 2 values are no string (int)"),
        ("string", [ObjectId(), 7], "problem", "2 of 2 values are no string (ObjectId, int)"),
        ("objectid", ["5f0d1e2a3b4c5d6e7f809192"], "problem", "1 of 1 values are no objectid (str)"),
    ],
)
def test_values_that_can_be_no_keys_are_told(key_type: KeyType, values: list[Any], level: str, part: str) -> None:
    finding = judge("resources.flights.refs.carrier", "airlines", key_type, values)
    assert (finding.level, part in finding.message) == (level, True)
    assert finding.message.startswith("resources.flights.refs.carrier: ")
    assert level == "ok" or "airlines" in finding.remedy
