"""Canonical keys: equal exactly where the `_id`s are; keys from outside: taken in their one spelling or refused."""

import math
import struct
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any

import bson
import pytest
from bson.binary import Binary, UuidRepresentation
from bson.code import Code
from bson.decimal128 import Decimal128, create_decimal128_context
from bson.int64 import Int64
from bson.objectid import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from neverstale import keys
from neverstale.keys import KeyValue, Names, canonical, parse, value_of

INT64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False).map(
    lambda number: Decimal128(create_decimal128_context().create_decimal(number))
)
NUMBERS = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    INT64.map(Int64),
    st.floats(allow_nan=False, allow_infinity=False),
    DECIMALS,
    # Numbers that meet: the same few values in every type.
    st.sampled_from([0, 1, 2, 0.5, -0.0, 1.0, 2.0**53, 1e23, 2.0**63]),
    st.sampled_from(["0", "-0", "0E+3", "1", "1.0", "10E-1", "0.5", "0.50", "9007199254740992"]).map(Decimal128),
    st.sampled_from([Int64(0), Int64(1), Int64(2**53), Int64(2**53 + 1)]),
)
OTHERS = st.one_of(
    TEXT,
    st.booleans(),
    st.none(),
    st.uuids(),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.binary(),
    TEXT.map(Code),
    st.dictionaries(st.sampled_from("ab"), st.integers(0, 3), max_size=2),
)


def exact(number: Any) -> Fraction:
    """What MongoDB compares numbers by."""
    return Fraction(number.to_decimal() if isinstance(number, Decimal128) else number)


def stored(value: Any) -> Any:
    """The value as it comes back from BSON, as the watcher and the loader see it."""
    options: bson.CodecOptions[Any] = bson.CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
    return bson.decode(bson.encode({"_id": value}, codec_options=options), codec_options=options)["_id"]


@given(NUMBERS, NUMBERS)
def test_numbers_have_equal_text_exactly_if_they_are_equal(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (exact(one) == exact(other))


@given(OTHERS, OTHERS)
def test_values_of_other_types_have_equal_text_exactly_if_they_are_the_same(one: Any, other: Any) -> None:
    same = type(one) is type(other) and one == other
    if isinstance(one, dict) and same:
        same = list(one) == list(other)  # in BSON the order of fields counts
    assert (canonical(one) == canonical(other)) == same


@given(NUMBERS, OTHERS)
def test_no_number_has_the_text_of_another_type(number: Any, other: Any) -> None:
    assert canonical(number) != canonical(other)


@given(st.one_of(NUMBERS, OTHERS))
def test_a_key_has_the_same_text_before_and_after_storing(value: Any) -> None:
    assert canonical(stored(value)) == canonical(value)


@pytest.mark.parametrize(
    "bits", [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000001], ids=["nan", "-nan", "payload"]
)
def test_every_nan_is_the_same_id(bits: int) -> None:
    (nan,) = struct.unpack(">d", bits.to_bytes(8, "big"))
    assert canonical(nan) == canonical(Decimal128("NaN")) == canonical(Decimal128("-NaN")) == canonical(math.nan)


def test_infinities_are_the_same_in_both_types_but_differ_by_sign() -> None:
    assert canonical(math.inf) == canonical(Decimal128("Infinity"))
    assert canonical(-math.inf) == canonical(Decimal128("-Infinity")) != canonical(math.inf)


@pytest.mark.parametrize("text", ["1E+6144", "-1E+6144", "1E-6176", "9.999999999999999999999999999999999E+6144"])
def test_the_largest_and_smallest_decimals_have_a_text(text: str) -> None:
    assert canonical(Decimal128(text)).startswith("n:")
    assert Decimal(canonical(Decimal128(text))[2:]) == Decimal(text)


@pytest.mark.parametrize("number", [5e-324, 1.7976931348623157e308, 2.2250738585072014e-308])
def test_the_text_of_a_double_is_exact(number: float) -> None:
    assert Fraction(canonical(number)[2:]) == Fraction(number)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("UA1", "s:UA1"),
        ("", "s:"),
        ("a:b/{☃}", "s:a:b/{☃}"),
        (42, "i:42"),
        (-(2**63), f"i:{-(2**63)}"),
        (Int64(2**63 - 1), f"i:{2**63 - 1}"),
        (1.0, "i:1"),
        (0.5, "n:0.5"),
        (2.0**63, "n:9223372036854775808"),
        (ObjectId("0123456789abcdef01234567"), "o:0123456789abcdef01234567"),
        (uuid.UUID(int=1), "u:00000000000000000000000000000001"),
        (Binary(bytes(15) + b"\1", 4), "u:00000000000000000000000000000001"),
        (True, "x:0800000008000100"),
    ],
)
def test_the_text_of_a_key_is_as_documented(value: Any, text: str) -> None:
    assert canonical(value) == text


@given(TEXT.filter(bool))
def test_a_string_key_is_taken_as_it_is(text: str) -> None:
    assert canonical(parse(text, "string")) == f"s:{text}"


@given(INT64)
def test_a_whole_number_is_taken_in_decimal(number: int) -> None:
    assert parse(str(number), "int") == number
    assert canonical(parse(str(number), "int")) == f"i:{number}"


@given(st.binary(min_size=12, max_size=12).map(ObjectId))
def test_an_objectid_is_taken_in_hex_of_either_case(value: ObjectId) -> None:
    assert parse(str(value), "objectid") == parse(str(value).upper(), "objectid") == value


@given(st.uuids())
def test_a_uuid_is_taken_with_and_without_hyphens(value: uuid.UUID) -> None:
    assert parse(str(value), "uuid") == parse(value.hex, "uuid") == parse(str(value).upper(), "uuid") == value


@pytest.mark.parametrize(
    ("text", "key_type"),
    [
        ("", "string"),
        ("\ud800", "string"),
        ("x" * 4097, "string"),
        ("é" * 2049, "string"),
        *((text, "int") for text in ("", "-", "+1", "01", "-0", "-01", "1.0", "1e3", " 1", "1_0", "0x1")),
        *((digit, "int") for digit in ("\u0661", "\u00b2")),
        (str(2**63), "int"),
        (str(-(2**63) - 1), "int"),
        ("9" * 4000, "int"),
        *((text, "objectid") for text in ("", "0" * 23, "0" * 25, "g" * 24, "aa " * 8, "\uff10" * 24)),
        *((text, "uuid") for text in ("", "0" * 31, "0" * 33, "g" * 32, " " + "0" * 31, "\uff11" * 32)),
        ("{00000000-0000-0000-0000-000000000001}", "uuid"),
        ("urn:uuid:00000000-0000-0000-0000-000000000001", "uuid"),
        ("0000000000000000000000000000000_1", "uuid"),
        ("0000-0000000000000000000000000000-0-0-0", "uuid"),
    ],
)
def test_a_malformed_key_is_refused(text: str, key_type: keys.KeyType) -> None:
    with pytest.raises(ValueError):
        parse(text, key_type)


@given(st.text(), st.sampled_from(["string", "int", "objectid", "uuid"]))
def test_any_text_is_a_key_of_its_type_or_refused(text: str, key_type: keys.KeyType) -> None:
    try:
        value = parse(text, key_type)
    except ValueError:
        return
    assert keys.type_matches(canonical(value), key_type)
    assert keys.value_of(canonical(value)) == value


@pytest.mark.parametrize("length", [1024, 4096])
def test_long_keys_are_taken_up_to_the_limit(length: int) -> None:
    assert parse("x" * length, "string") == "x" * length


@given(st.binary(), st.binary())
def test_digests_tell_keys_apart(one: bytes, other: bytes) -> None:
    assert (keys.digest(one) == keys.digest(other)) == (one == other)
    assert len(keys.digest(one)) == 16


def test_all_names_in_redis_stand_under_the_prefix_and_differ() -> None:
    names = Names("p")
    spelled = [
        names.entry("flights", "s:a"),
        names.applied,
        names.floor("flights"),
        names.watermarks("g"),
        names.reached("g"),
        names.role("api", "1"),
    ]
    assert all(name.startswith(b"p:") for name in spelled)
    assert len(set(spelled)) == len(spelled)


def test_an_entrys_name_is_its_prefix_and_its_key() -> None:
    names = Names("p")
    assert names.entry("flights", "s:ü") == names.entry_prefix("flights") + "s:ü".encode()


VALUES = st.one_of(
    TEXT,
    INT64,
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.uuids(),
)


@given(VALUES)
def test_a_canonical_key_spells_its_value(value: KeyValue) -> None:
    assert value_of(canonical(value)) == value


@pytest.mark.parametrize("key", ["", "s", "x:0800", "i:", "i:01", f"i:{2**63}", "o:abc", "u:abc", "z:1"])
def test_what_no_resource_can_have_as_a_key_has_no_value(key: str) -> None:
    with pytest.raises(ValueError):
        value_of(key)


def test_a_uuid_is_read_from_its_hex_digits() -> None:
    assert value_of("u:12345678123456781234567812345678") == uuid.UUID("12345678-1234-5678-1234-567812345678")


NAMES = Names("ns")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (NAMES.applied, "string"),
        (NAMES.floor("watermarks"), "string"),
        (NAMES.entry("reached", "s:a"), "string"),
        (NAMES.watermarks("g"), "hash"),
        (NAMES.reached("g"), "hash"),
        (NAMES.limit(b"x"), "string"),
        (b"ns:{t}:gens", "string"),
        (b"ns:{t}:reads", "zset"),
        (b"ns:{t}:reads:since", "hash"),
        (b"ns:{t}:0a:p", "hash"),
        (b"ns:{t}:0a:b:1f", "hash"),
        (b"ns:{t}:0a:z:n:s:x", "zset"),
        (b"ns:{t}:0a:l:n:s:x:0", "string"),
        (NAMES.cell("default.4.1").entry("b", "s:}:a"), "string"),
        (NAMES.cell("default.4.1").watermarks("g"), "hash"),
        (NAMES.cell("flights").applied, "string"),
        (NAMES.cell("flights").reached("g"), "hash"),
        (NAMES.partitions("default"), "hash"),
        (b"shop:applied", None),
        (b"ns:announcements", None),
    ],
)
def test_what_we_keep_under_a_key_is_told_from_its_name(key: bytes, kind: str | None) -> None:
    assert NAMES.type_of(key) == kind
