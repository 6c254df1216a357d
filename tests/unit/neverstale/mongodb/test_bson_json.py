"""Each BSON type as JSON, by the table that docs/json.md shows."""

import datetime
import json
import uuid
from typing import Any

import pytest
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from neverstale.bson.values import RawValue, decode, encode
from neverstale.mongodb import bson_json
from tests.support.project import ROOT

OBJECTID = "5f0d1e2a3b4c5d6e7f809192"
UUID = "12345678-1234-5678-1234-567812345678"
DATE = datetime.datetime(2013, 2, 8, 14, 5, 0, 90_000, tzinfo=datetime.UTC)

# A row of the table -> values and the JSON that each becomes.
ROWS: dict[str, list[tuple[Any, str]]] = {
    "double": [(1.5, "1.5"), (float("nan"), "null"), (float("inf"), "null"), (float("-inf"), "null"), (-0.0, "-0.0")],
    "string, symbol": [
        ("é\u0000\U0001f600", '"é\\u0000\U0001f600"'),
        ("", '""'),
        (RawValue(0x02, b"\5\0\0\0caf\xe9\0"), '"caf\ufffd"'),
    ],
    "document, array": [
        ({"b": 1, "a": [2, []]}, '{"b":1,"a":[2,[]]}'),
        ({}, "{}"),
        (RawValue(0x03, b"\x13\0\0\0\x10a\0\1\0\0\0\x10a\0\2\0\0\0\0"), '{"a":1}'),
        (RawValue(0x03, b"\x0c\0\0\0\x10\xe9\0\1\0\0\0\0"), '{"\ufffd":1}'),
    ],
    "int, long": [(42, "42"), (Int64(42), "42"), (2**63 - 1, "9223372036854775807"), (-(2**63), f"{-(2**63)}")],
    "bool, null, undefined": [(True, "true"), (False, "false"), (None, "null")],
    "ObjectId": [(ObjectId(OBJECTID), f'"{OBJECTID}"')],
    "date": [
        (DATE, '"2013-02-08T14:05:00.090Z"'),
        (datetime.datetime(1, 1, 1, tzinfo=datetime.UTC), '"0001-01-01T00:00:00.000Z"'),
        (datetime.datetime(9999, 12, 31, 23, 59, 59, 999_000, datetime.UTC), '"9999-12-31T23:59:59.999Z"'),
        (DatetimeMS(2**50), "1125899906842624"),
        (DatetimeMS(-(2**50)), "-1125899906842624"),
    ],
    "Decimal128": [
        (Decimal128("10.50"), '"10.50"'),
        (Decimal128("NaN"), '"NaN"'),
        (Decimal128("1E+5000"), '"1E+5000"'),
        (Decimal128("Infinity"), '"Infinity"'),
        (Decimal128("-Infinity"), '"-Infinity"'),
    ],
    "UUID (binary 4)": [(uuid.UUID(UUID), f'"{UUID}"'), (Binary(b"hello", 4), '"aGVsbG8="')],
    "binary": [
        (b"hello", '"aGVsbG8="'),
        (Binary(b"hello", 128), '"aGVsbG8="'),
        (b"", '""'),
        (Binary(bytes(16), 3), '"AAAAAAAAAAAAAAAAAAAAAA=="'),
    ],
    "regular expression": [
        (Regex("^a.*", "im"), '{"$regex":"^a.*","$options":"im"}'),
        (RawValue(0x0B, b"\xe9.\0ij\0"), '{"$regex":"\ufffd.","$options":"ij"}'),
    ],
    "timestamp": [(Timestamp(0x5117A1B3, 1), '"5117a1b300000001"')],
    "JavaScript": [
        (Code("f()"), '"f()"'),
        (Code("f()", {"n": Int64(1)}), '{"$code":"f()","$scope":{"n":1}}'),
        (RawValue(0x0D, b"\3\0\0\0f\xe9\0"), '"f\ufffd"'),
        (
            RawValue(0x0F, b"\x17\0\0\0\3\0\0\0f\xe9\0\x0c\0\0\0\x10n\0\1\0\0\0\0"),
            '{"$code":"f\ufffd","$scope":{"n":1}}',
        ),
    ],
    "DBRef": [
        (DBRef("c", ObjectId(OBJECTID)), f'{{"$ref":"c","$id":"{OBJECTID}"}}'),
        (DBRef("c", 1, "d"), '{"$ref":"c","$id":1,"$db":"d"}'),
        ({"b": 1, "$id": 2, "$ref": "c"}, '{"b":1,"$id":2,"$ref":"c"}'),
        ({"$ref": "c"}, '{"$ref":"c"}'),
        ({"$ref": 1, "$id": None}, '{"$ref":1,"$id":null}'),
    ],
    "DBPointer": [
        (RawValue(0x0C, b"\4\0\0\0d.c\0" + bytes.fromhex(OBJECTID)), f'{{"$ref":"d.c","$id":"{OBJECTID}"}}')
    ],
    "MinKey, MaxKey": [(MinKey(), '{"$minKey":1}'), (MaxKey(), '{"$maxKey":1}')],
}


def answered(raw: bytes) -> bytes:
    """What the server sends, as we answer it."""
    return bson_json.encode(decode(raw))


def encoded(document: dict[str, Any]) -> bytes:
    return answered(encode(document))


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|") and "key_type" not in line]


@pytest.mark.parametrize(("row", "cases"), ROWS.items(), ids=ROWS)
def test_a_value_is_written_as_its_row_says(row: str, cases: list[tuple[Any, str]]) -> None:
    for value, text in cases:
        assert encoded({"v": value}).decode() == f'{{"v":{text}}}'
        assert encoded({"v": [{"w": value}]}).decode() == f'{{"v":[{{"w":{text}}}]}}', f"{row}: nested"


@pytest.mark.parametrize("element", [b"\x06v\0", b"\x0ev\0\x02\0\0\0x\0"], ids=["undefined", "symbol"])
def test_types_that_no_driver_writes_any_more_are_read(element: bytes) -> None:
    raw = (5 + len(element)).to_bytes(4, "little") + element + b"\0"
    assert answered(raw) in (b'{"v":null}', b'{"v":"x"}')


def test_the_table_has_a_row_for_every_case_and_a_case_for_every_row() -> None:
    rows = [line.split("|")[1].strip() for line in table(bson_json.__doc__ or "")][2:]
    assert rows == list(ROWS)


def test_docs_show_the_table_of_the_code() -> None:
    shown = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    assert table(shown)[: len(ROWS) + 2] == table(bson_json.__doc__ or "")


Text = st.text(st.characters(exclude_categories=["Cs"]))
Name = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0$"), min_size=1)
Scalar = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | Text
    | st.floats(allow_nan=False, allow_infinity=False)
)
Json = st.recursive(Scalar, lambda inner: st.lists(inner) | st.dictionaries(Name, inner), max_leaves=20)


@given(st.dictionaries(Name, Json, max_size=6))
def test_what_json_can_say_comes_back_as_it_was(document: dict[str, Any]) -> None:
    assert json.loads(encoded(document)) == document
