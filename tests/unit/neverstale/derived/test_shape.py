"""What declarations make of documents, and how sums and scores are kept."""

import datetime
from typing import Any

import pytest
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from hypothesis import given
from hypothesis import strategies as st

from neverstale.catalog.declarations import Declarations
from neverstale.derived.contributions import Contribution, buckets_for, joined, limbs, pack
from neverstale.derived.counters.fields import Group, Sum, fields_to_read, read_groups
from neverstale.derived.counters.sums import LIMIT, UNSUMMABLE, summable
from neverstale.derived.groups import BEYOND
from neverstale.derived.rankings.members import key_of, member_of
from neverstale.derived.rankings.scores import score
from neverstale.derived.redis_names import GenerationNames
from neverstale.derived.shape import Shape
from neverstale.keys import canonical

SUMS: list[tuple[Any, int, str]] = [
    (12, 0, "12"),
    (12, 2, "1200"),
    (Int64(-3), 0, "-3"),
    (0.1, 1, "1"),
    (0.1, 0, UNSUMMABLE),
    (1.5, 2, "150"),
    (Decimal128("10.50"), 2, "1050"),
    (Decimal128("0.001"), 2, UNSUMMABLE),
    (2**63 - 1, 0, str(2**63 - 1)),
    (2**63, 0, UNSUMMABLE),
    (2**62, 1, UNSUMMABLE),
    (Decimal128("1E+6000"), 0, UNSUMMABLE),
    (float("nan"), 0, UNSUMMABLE),
    (Decimal128("-Infinity"), 0, UNSUMMABLE),
    (None, 0, ""),
    (True, 0, ""),
    ("12", 0, ""),
    ([12], 0, ""),
]


@pytest.mark.parametrize(("value", "scale", "expected"), SUMS, ids=repr)
def test_a_number_is_summed_exactly_or_not_at_all(value: Any, scale: int, expected: str) -> None:
    assert summable(value, scale) == expected


SCORES: list[tuple[Any, bool, str]] = [
    (12, True, "-12"),
    (12, False, "12"),
    (0, True, "0"),
    (-0.0, False, "0"),
    (0.1, True, "-0.1"),
    (2**53 + 1, False, "9007199254740992.0"),
    (Decimal128("2.5"), False, "2.5"),
    (datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC), False, "1000"),
    (10**400, True, ""),
    (float("inf"), True, ""),
    (True, True, ""),
    (None, True, ""),
    ("12", True, ""),
]


@pytest.mark.parametrize(("value", "descends", "expected"), SCORES, ids=repr)
def test_a_score_is_the_nearest_double(value: Any, descends: bool, expected: str) -> None:
    assert score(value, descends=descends) == expected


@given(st.lists(st.integers(-LIMIT + 1, LIMIT - 1), max_size=50))
def test_limbs_add_up_within_64_bits(values: list[int]) -> None:
    pairs = [limbs(value) for value in values]
    high, low = sum(high for high, _ in pairs), sum(low for _, low in pairs)
    assert joined(high, low) == sum(values)
    assert all(abs(high) < 2**32 and abs(low) < 2**32 for high, low in pairs)


DECLARED = Declarations.model_validate(
    {
        "shown": ["carrier"],
        "lists": {"departures": {"by": ["origin", "day"], "where": {"cancelled": False}, "sort": ["-sched"]}},
        "counters": {
            "by_status": {"by": ["origin", "status"]},
            "all": {"sums": {"delay": {"field": "delay", "scale": 1}}},
        },
        "rankings": {"late": {"by": ["day"], "score": "delay"}},
    }
)
FLIGHT = {"origin": "JFK", "day": "mon", "status": "departed", "cancelled": False, "delay": 7, "carrier": "UA"}


def test_facts_are_what_declarations_use_in_one_order() -> None:
    assert Shape(DECLARED).facts([FLIGHT]) == [("s:JFK", "s:mon", "s:departed", "1", "70", "-7")]


def test_a_document_without_the_constants_is_in_no_group_of_the_list() -> None:
    shape = Shape(DECLARED)
    (held,) = shape.facts([FLIGHT | {"cancelled": True}])
    assert shape.tagged[0].groups(held) == ()


def test_the_projection_names_no_path_inside_another() -> None:
    declared = Declarations.model_validate({"counters": {"a": {"by": ["x", "x.y", "z"]}}})
    assert Shape(declared).projection == {"_id": 1, "x": 1, "z": 1}


CHANGES = [
    (["carrier"], True, "a page shows it"),
    (["sched"], True, "pages are sorted by it"),
    (["cancelled"], True, "the list is limited by it"),
    (["status"], False, "only a counter uses it"),
    (["gate"], False, "nobody uses it"),
    (None, True, "it may be anything"),
]


@pytest.mark.parametrize(("changed", "touches", "why"), CHANGES)
def test_a_change_touches_a_list_if_pages_can_differ(changed: list[str] | None, touches: bool, why: str) -> None:
    assert Shape(DECLARED).effects(changed).tagged[0].touches is touches, why


def test_a_change_of_a_constants_field_may_let_a_document_into_the_list() -> None:
    shape = Shape(DECLARED)
    changes: list[list[str] | None] = [["cancelled"], ["cancelled.by"], None, ["carrier"], ["origin"]]
    assert [shape.effects(changed).tagged[0].enters for changed in changes] == [True, True, True, False, False]


def test_a_change_of_fields_that_nothing_derived_uses_is_no_concern() -> None:
    shape = Shape(DECLARED)
    assert not shape.concerns(["gate"])
    assert shape.concerns(["status"])
    assert shape.concerns(["carrier"])
    assert shape.concerns(None)


def test_a_contribution_survives_packing() -> None:
    assert Contribution.unpack(pack(7 << 32, ("s:é", ""))) == Contribution(7 << 32, ("s:é", ""))


@pytest.mark.parametrize("documents", [0, 1, 1000, 100_000, 10**9])
def test_buckets_stay_small_and_every_key_has_one(documents: int) -> None:
    buckets = buckets_for(documents)
    assert documents / buckets <= 40 or buckets == 2**20
    (bucket,) = GenerationNames("g").buckets([b"s:k"], buckets)
    assert 0 <= int(bucket.removeprefix(b"g:b:"), 16) < buckets


KEYS: list[list[Any]] = [[-(2**63), -5, 0, 9, 10, 2**63 - 1], ["", "a", "b", "é"]]


@pytest.mark.parametrize("values", KEYS, ids=repr)
def test_members_sort_as_mongodb_sorts_keys(values: list[Any]) -> None:
    texts = [canonical(value) for value in values]
    assert sorted(texts, key=member_of) == texts
    assert [key_of(member_of(text)) for text in texts] == texts


def test_a_member_is_its_key_for_any_type() -> None:
    for text in ("o:0123456789abcdef01234567", "u:" + "0" * 32, "x:00ff", "n:2.5"):
        assert key_of(member_of(text)) == text


def test_a_counters_hash_reads_as_groups() -> None:
    fields = {
        b".g": b"",
        b"n|s:x": b"3",
        b"m0|s:x": b"2",
        b"l0|s:x": b"5",
        b"h0|s:x": b"1",
        b"n|n": b"1",
        b"u0|n": b"1",
    }
    assert read_groups(fields, 1) == {
        "s:x": Group(3, (Sum(2**32 + 5, 2),)),
        "n": Group(1, (Sum(None, 1),)),
    }
    assert fields_to_read("g", 1) == ["n|g", "m0|g", "l0|g", "h0|g", "u0|g"]


class Unreadable(dict[str, Any]):
    """A document whose fields cannot be told."""

    def get(self, key: str, default: Any = None) -> Any:
        raise ValueError(key)


def test_a_document_whose_facts_cannot_be_told_is_unknown_and_harms_no_other() -> None:
    shape = Shape(
        Declarations.model_validate(
            {
                "lists": {"l": {"by": ["a"], "where": {"b": 1}}},
                "counters": {"c": {"sums": {"n": {"field": "n"}}}},
                "rankings": {"r": {"score": "n"}},
            }
        )
    )
    usual: dict[str, Any] = {"_id": "k", "a": "x", "b": 1, "n": 7}
    before, unknown, after = shape.facts([usual, Unreadable(usual), usual])
    assert before == after == shape.facts([usual])[0]
    assert unknown == (BEYOND, "1", UNSUMMABLE, "")
    assert shape.tagged[0].groups(unknown) is None
