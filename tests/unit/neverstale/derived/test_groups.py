"""Group values as text."""

import datetime
import uuid
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from neverstale.bson.texts import text_of, value_of
from neverstale.bson.values import CODEC
from neverstale.derived.groups import BEYOND, JOIN, combinations, fact, fact_at, meets, members

VALUES: list[Any] = [
    "JFK",
    "",
    "a|b\\c\x1e\x1f*",
    0,
    -7,
    2**62,
    True,
    False,
    None,
    0.5,
    -1e-9,
    Decimal128("0.1"),
    datetime.datetime(2013, 2, 4, 5, 6, 7, 8000, tzinfo=datetime.UTC),
    DatetimeMS(-(10**15)),
    ObjectId("0123456789abcdef01234567"),
    uuid.UUID(int=7),
    Binary(b"\0\1", 0),
    {"city": "New York", "zip": [1, 2]},
    [1, "x"],
    Timestamp(1, 2),
    Regex("^a", "i"),
    bson.MinKey(),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_text_spells_its_value(value: Any) -> None:
    read = value_of(text_of(value))
    assert bson.encode({"": read}, codec_options=CODEC) == bson.encode({"": value}, codec_options=CODEC)


def test_different_values_have_different_texts() -> None:
    texts = [text_of(value) for value in VALUES]
    assert len(set(texts)) == len(texts)


EQUAL = [
    (1, 1.0, Int64(1), Decimal128("1"), Decimal128("1.00")),
    (0, -0.0, Decimal128("-0")),
    (0.5, Decimal128("0.50")),
    (float("nan"), Decimal128("NaN"), Decimal128("sNaN")),
    (float("inf"), Decimal128("Infinity")),
    ({"a": 1}, {"a": 1.0}),
    ([1], [Int64(1)]),
    (1e20, 10**20),
]


@pytest.mark.parametrize("values", EQUAL, ids=repr)
def test_values_that_mongodb_holds_equal_are_one_group(values: tuple[Any, ...]) -> None:
    assert len({text_of(value) for value in values}) == 1


def test_a_double_and_a_decimal_that_are_not_exactly_equal_are_two_groups() -> None:
    assert text_of(0.1) != text_of(Decimal128("0.1"))


@given(st.text(), st.text())
def test_texts_of_strings_are_as_different_as_the_strings(a: str, b: str) -> None:
    assert (text_of(a) == text_of(b)) == (a == b)
    assert value_of(text_of(a)) == a


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_the_fields_of_a_group_can_be_told_apart(values: list[str]) -> None:
    (group,) = combinations(tuple(text_of(value) for value in values)) or ()
    assert [value_of(text) for text in members(group, len(values))] == values


TABLE = [
    ({}, ["n"]),
    ({"f": None}, ["n"]),
    ({"f": "x"}, ["s:x"]),
    ({"f": ["x", "y", "x"]}, ["s:x", "s:y"]),
    ({"f": [1, 1.0]}, ["i:1"]),
    ({"f": []}, []),
    ({"f": [None]}, ["n"]),
    ({"f": [["x"]]}, [text_of(["x"])]),
]


@pytest.mark.parametrize(("document", "texts"), TABLE, ids=repr)
def test_a_field_contributes_as_the_table_says(document: dict[str, Any], texts: list[str]) -> None:
    assert fact_at(document, "f") == JOIN.join(texts)


PATHS = [
    ({"a": {"b": 1}}, "i:1"),
    ({"a": {"b": [1, 2]}}, f"i:1{JOIN}i:2"),
    ({"a": [{"b": 1}, {"b": 2}, {"c": 3}]}, f"i:1{JOIN}i:2{JOIN}n"),
    ({"a": []}, "n"),
    ({"a": 1}, "n"),
    ({"a": {}}, "n"),
    ({}, "n"),
]


@pytest.mark.parametrize(("document", "expected"), PATHS, ids=repr)
def test_a_path_finds_what_a_query_finds(document: dict[str, Any], expected: str) -> None:
    assert fact_at(document, "a.b") == expected


def test_too_many_elements_are_beyond() -> None:
    assert fact([list(range(32))]) != BEYOND
    assert fact([list(range(33))]) == BEYOND


def test_a_long_value_is_beyond() -> None:
    assert fact(["x" * 510]) != BEYOND
    assert fact(["x" * 511]) == BEYOND
    assert fact(["é" * 300]) == BEYOND


def test_arrays_make_every_combination() -> None:
    assert combinations((f"i:1{JOIN}i:2", "s:x")) == ("i:1|s:x", "i:2|s:x")
    assert combinations(("", "s:x")) == ()
    assert combinations(()) == ("",)


def test_too_many_combinations_are_beyond() -> None:
    six = JOIN.join(f"i:{i}" for i in range(6))
    assert combinations((six, six)) is None
    assert combinations((BEYOND, "s:x")) is None


MEETINGS = [
    ("a", "a", True),
    ("a", "a.b", True),
    ("a.b", "a", True),
    ("a.0.b", "a.b", True),
    ("a.3", "a", True),
    ("a.c", "a.b", False),
    ("ab", "a", False),
    ("a", "ab", False),
]


@pytest.mark.parametrize(("changed", "path", "expected"), MEETINGS)
def test_a_change_meets_the_paths_above_and_below(changed: str, path: str, expected: bool) -> None:
    assert meets(changed, path) is expected
