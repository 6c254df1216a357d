"""Texts of values: total, exact, bounded; for every value that a server stores."""

import time
from collections import defaultdict
from typing import Any

import pytest
from bson.decimal128 import Decimal128
from hypothesis import given

from neverstale.api.web.typed_values import WrongValue, question, read, spell
from neverstale.bson.texts import text_of, value_of
from neverstale.bson.values import decode, under
from neverstale.derived.counters.sums import LIMIT, UNSUMMABLE, summable
from neverstale.derived.groups import BEYOND, MAX_TEXT_BYTES, fact, fact_at
from neverstale.derived.rankings.scores import score
from tests.properties.raw_bson import ODD, Value, document, nested, string, values


def decoded(value: Value) -> Any:
    return decode(document(value.named("v")))["v"]


ODD_VALUES = {name: decoded(value) for name, value in ODD.items()}
EQUAL = [
    {"null", "undefined"},
    {
        "NaN",
        "another NaN",
        "a signalling NaN",
        "decimal NaN",
        "decimal signalling NaN",
        "decimal -NaN with a payload",
    },
    {"infinity", "decimal infinity"},
    {"minus infinity", "decimal minus infinity"},
    {"2^63 as a double", "2^63 as a decimal"},
    {"a whole number beyond 64 bits", "1e20 as a decimal"},
    {"2^100 as a double", "2^100 as a decimal"},
    {"one", "one as a long", "one as a double", "a decimal with zeros"},
    {"a string that is no UTF-8", "a symbol that is no UTF-8"},
    {"a document with a symbol", "a document with a string"},
    {"a document with a double", "a document with a whole number"},
    {"code with a scope", "code with a scope of doubles"},
    {
        "minus zero",
        "a zero with an exponent",
        "a zero with a small exponent",
        "a decimal of more than 34 digits",
        "a decimal of another spelling",
    },
]
"""Names of odd values that are one value to MongoDB; all others differ from one another."""


def test_odd_values_have_one_text_exactly_if_mongodb_holds_them_equal() -> None:
    found = defaultdict(set)
    for name, value in ODD_VALUES.items():
        found[text_of(value)].add(name)
    assert sorted(map(sorted, (names for names in found.values() if len(names) > 1))) == sorted(map(sorted, EQUAL))


@given(values())
def test_a_text_of_any_value_is_plain_and_spells_an_equal_one(value: Value) -> None:
    text = text_of(decoded(value))
    assert text == text.encode().decode()
    assert not set(text) & set("\x1e\x1f|")
    assert text_of(value_of(text)) == text
    under("$eq", value_of(text))


@given(values())
def test_a_fact_of_any_value_is_bounded(value: Value) -> None:
    found = fact_at({"v": decoded(value)}, "v")
    assert found == BEYOND or all(len(text.encode()) <= MAX_TEXT_BYTES for text in found.split("\x1e"))


@pytest.mark.parametrize("value", ODD_VALUES.values(), ids=ODD_VALUES)
def test_sums_and_scores_of_odd_values_take_no_time_and_never_fail(value: Any) -> None:
    started = time.process_time()
    for scale in (0, 18):
        found = summable(value, scale)
        assert found in ("", UNSUMMABLE) or -LIMIT < int(found) < LIMIT
    for descends in (False, True):
        assert (found := score(value, descends=descends)) == "" or abs(float(found)) < float("inf")
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    ("text", "scale", "expected"),
    [
        ("1E+5000", 0, UNSUMMABLE),
        ("1E-6176", 18, UNSUMMABLE),
        ("0E+6111", 2, "0"),
        ("-0E-6176", 2, "0"),
        ("NaN", 0, UNSUMMABLE),
        ("sNaN", 0, UNSUMMABLE),
        ("Infinity", 0, UNSUMMABLE),
        ("1.50", 2, "150"),
        ("9223372036854775807", 0, "9223372036854775807"),
        ("9223372036854775808", 0, UNSUMMABLE),
    ],
)
def test_a_decimal_is_summed_exactly_or_not_at_all(text: str, scale: int, expected: str) -> None:
    assert summable(Decimal128(text), scale) == expected


def test_a_large_value_is_beyond_without_being_spelled() -> None:
    wide = {str(number): number for number in range(300_000)}
    deep = decoded(nested(170, string(b"x" * 10_000), lambda value: Value(4, document(value.named("0")))))
    started = time.process_time()
    assert fact([[wide]]) == fact([[[wide]]]) == fact([[deep]]) == BEYOND
    assert time.process_time() - started < 0.1


# --- how a caller says and is told them


@given(values())
def test_whoever_sees_a_group_is_told_how_to_ask_for_it(value: Value) -> None:
    seen = value_of(text_of(decoded(value)))
    asked = question({"f": seen}, {"f": "string"})
    if asked is None:
        assert len(text_of(seen).encode()) > MAX_TEXT_BYTES
    elif asked:
        kind, text = spell(seen)
        assert text_of(read(kind, text)) == text_of(seen)


@pytest.mark.parametrize(
    ("value", "declared", "expected"),
    [
        ("plain", "string", ""),
        ("5", "int", "f:string=5"),
        (5, "string", ""),
        (None, "string", ""),
        (True, "string", ""),
        (1e20, "string", ""),
        (float("nan"), "string", "f:double=nan"),
        (Decimal128("1E+5000"), "string", "f:decimal=1E%2B5000"),
        (Decimal128("1.5"), "decimal", ""),
        (b"abc", "string", "f:binary=YWJj"),
        (ODD_VALUES["the first date"], "date", "f:date=-9223372036854775808ms"),
        (ODD_VALUES["a string that is no UTF-8"], "string", "f:bson=EAAAAAIABQAAAGNhZukAAA"),
        (ODD_VALUES["the least key"], "string", "f:bson=BwAAAP8AAA"),
        ("x" * 600, "string", None),
    ],
)
def test_a_question_is_told_where_json_does_not_tell_it(value: Any, declared: str, expected: str | None) -> None:
    assert question({"f": value}, {"f": declared}) == expected


def test_a_question_names_all_fields_of_its_group() -> None:
    values = {"a b": None, "c": "x&y", "d": b""}
    assert question(values, dict.fromkeys(values, "string")) == "a%20b:null&c:string=x%26y&d:binary="


@pytest.mark.parametrize(
    "text",
    ["", "AAAA", "BQAAAAA", "DAAAABAAAQAAAAA*", "EwAAABBhAAEAAAAQYgACAAAAAA", "A" * 3000, "BgAAAEIAAA", "é"],
)
def test_bson_that_is_no_single_value_is_refused(text: str) -> None:
    with pytest.raises(WrongValue):
        read("bson", text)
