"""What counts as the same `_id` is MongoDB's to say: the canonical keys must agree with its index."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from bson.binary import Binary
from bson.code import Code
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from neverstale.keys import canonical

VALUES: list[Any] = [
    *(0, 1, 2, -1, Int64(1), Int64(2**53), Int64(2**53 + 1), Int64(2**63 - 1), Int64(-(2**63))),
    *(0.0, -0.0, 1.0, 0.5, 0.1, 5e-324, 1e23, 1e300, 2.0**53, 2.0**63, -(2.0**63)),
    *(float("nan"), float("inf"), float("-inf")),
    *map(Decimal128, ("0", "-0", "0E+5", "1", "1.00", "10E-1", "0.5", "0.50", "0.1", "9007199254740993")),
    *map(Decimal128, ("9223372036854775808", "-9223372036854775808", "99999999999999991611392", "1E+23", "1E+300")),
    *map(Decimal128, ("0.1000000000000000055511151231257827", "1E-6176", "1E+6144", "NaN", "-NaN", "Infinity")),
    *(True, False, None, "", "1", "a", Code("a"), b"a", Binary(b"a", 5), Binary(b"a" * 16, 4), Binary(b"a" * 16, 3)),
    *(ObjectId("0" * 24), ObjectId("0" * 23 + "1"), {"a": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {}),
]


@pytest.fixture
def collection(mongo_uri: str, database: str) -> Iterator[Collection[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](mongo_uri) as client:
        yield client[database]["keys"]


def test_two_ids_have_one_canonical_key_exactly_if_mongodb_takes_them_for_one(
    collection: Collection[dict[str, Any]],
) -> None:
    same: dict[str, list[str]] = {}
    for value in VALUES:
        try:
            collection.insert_one({"_id": value, "by": canonical(value)})
        except DuplicateKeyError:
            holder = collection.find_one({"_id": value})
            assert holder is not None
            assert holder["by"] == canonical(value), f"MongoDB takes {value!r} for the same, we do not"
        same.setdefault(canonical(value), []).append(repr(value))

    assert collection.count_documents({}) == len(same), f"MongoDB takes some of these for different: {same}"


def test_the_values_meet_often_enough_to_tell() -> None:
    meetings = sum(canonical(one) == canonical(other) for one, other in combinations(VALUES, 2))
    assert meetings >= 20
