"""BSON of any shape: decoded without a failure, without a loss, and told apart where it differs."""

import struct
import time
from typing import Any

import bson
import pytest
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from neverstale.bson.values import CODEC, RawObject, RawValue, decode, element, encode, under
from neverstale.keys import any_value_of, canonical
from neverstale.mongodb import bson_json


def i32(number: int) -> bytes:
    return struct.pack("<i", number)


def text(raw: bytes) -> bytes:
    return i32(len(raw) + 1) + raw + b"\0"


def field(kind: int, name: bytes, payload: bytes) -> bytes:
    return bytes((kind,)) + name + b"\0" + payload


def document(*fields: bytes) -> bytes:
    return i32(len(b"".join(fields)) + 5) + b"".join(fields) + b"\0"


def nested(levels: int, inner: bytes, kind: int = 3) -> bytes:
    raw = inner
    for _ in range(levels):
        raw = document(field(kind, b"0", raw))
    return raw


ONE, TWO = field(0x10, b"a", i32(1)), field(0x10, b"a", i32(2))
ODD: dict[str, bytes] = {
    "a string that is no UTF-8": field(2, b"v", text(b"caf\xe9")),
    "a string with half a surrogate pair": field(2, b"v", text(b"\xed\xa0\x80")),
    "a name that is no UTF-8": field(0x10, b"v\xe9", i32(1)),
    "a UUID of 36 bytes": field(5, b"v", i32(36) + b"\x04" + b"1" * 36),
    "a UUID of no bytes": field(5, b"v", i32(0) + b"\x04"),
    "an old UUID of 3 bytes": field(5, b"v", i32(3) + b"\x03abc"),
    "an old binary whose lengths differ": field(5, b"v", i32(8) + b"\x02" + i32(2) + b"abcd"),
    "a name twice": field(3, b"v", document(ONE, TWO)),
    "a name twice at the top": ONE + TWO,
    "what looks like a DBRef, in another order": field(
        3, b"v", document(ONE, field(16, b"$id", i32(1)), field(2, b"$ref", text(b"c")))
    ),
    "a DBRef to a number": field(3, b"v", document(field(16, b"$ref", i32(1)), field(16, b"$id", i32(1)))),
    "a DBPointer": field(0x0C, b"v", text(b"d.c") + b"123456789012"),
    "a DBPointer that is no UTF-8": field(0x0C, b"v", text(b"d.\xe9") + b"123456789012"),
    "code that is no UTF-8": field(0x0D, b"v", text(b"\xe9")),
    "a scope that is no UTF-8": field(0x0F, b"v", i32(24) + text(b"f") + document(field(2, b"v", text(b"\xe9")))),
    "code with a scope that is no UTF-8": field(0x0F, b"v", i32(23) + text(b"f\xe9") + document(ONE)),
    "a regular expression that is no UTF-8": field(0x0B, b"v", b"\xe9\0i\0"),
    "options that Python lacks": field(0x0B, b"v", b"a\0jq\0"),
    "undefined": field(6, b"v", b""),
    "undefined inside others": field(3, b"v", document(field(4, b"a", document(field(6, b"0", b""))))),
    "options in another order": field(0x0B, b"v", b"a\0xi\0"),
    "options twice": field(0x0B, b"v", b"a\0ii\0"),
    "a scope with a name twice": field(0x0F, b"v", i32(29) + text(b"f") + document(ONE, TWO)),
    "a scope with undefined": field(0x0F, b"v", i32(18) + text(b"f") + document(field(6, b"a", b""))),
    "a date far from all calendars": field(9, b"v", struct.pack("<q", -(2**63))),
    "a decimal of all bits": field(0x13, b"v", b"\xff" * 16),
    "a decimal beyond its own range": field(0x13, b"v", b"\xff" * 8 + b"\x5f\xff" + b"\xff" * 6),
    "a timestamp of all bits": field(0x11, b"v", b"\xff" * 8),
    "a hundred levels around an odd string": field(3, b"v", nested(100, document(field(2, b"v", text(b"\xe9"))))),
    "190 levels of arrays around one": field(4, b"v", nested(190, document(field(2, b"0", text(b"\xe9"))), 4)),
}
LOSSY: dict[str, tuple[bytes, Any]] = {
    "a symbol": (field(0x0E, b"v", text(b"x")), "x"),
    "a symbol that is no UTF-8": (field(0x0E, b"v", text(b"\xe9")), RawValue(2, text(b"\xe9"))),
    "an array whose places have names": (field(4, b"v", document(ONE, TWO)), [1, 2]),
    "a bool of 2": (field(8, b"v", b"\x02"), True),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_the_driver_cannot_hold_is_decoded_exactly_and_has_a_json_form(odd: bytes) -> None:
    raw = document(field(2, b"_id", text(b"k")), odd, field(2, b"z", text(b"last")))
    found = decode(raw)
    assert encode(found) == raw
    assert (found["_id"], found["z"]) == ("k", "last")
    bson_json.encode(found)


@pytest.mark.parametrize(("raw", "value"), LOSSY.values(), ids=LOSSY)
def test_what_is_equal_to_something_usual_is_decoded_as_that(raw: bytes, value: Any) -> None:
    assert decode(document(raw, field(2, b"z", text(b"\xe9"))))["v"] == value
    assert decode(document(raw, field(2, b"z", text(b"e"))))["v"] == value


def test_of_two_fields_of_one_name_the_first_counts() -> None:
    assert decode(document(ONE, TWO)) == {"a": 1}
    assert isinstance(decode(document(field(3, b"v", document(ONE, TWO))))["v"], RawObject)


def test_nothing_is_ever_a_dbref() -> None:
    reference = {"$ref": "c", "$id": 1, "$db": "d", "more": 2}
    assert decode(bson.encode({"v": [reference]})) == {"v": [reference]}


def test_dates_and_uuids_are_what_they_are_elsewhere() -> None:
    raw = document(field(9, b"d", struct.pack("<q", 2**62)), field(5, b"u", i32(3) + b"\x04abc"), ODD["a name twice"])
    found = decode(raw)
    assert (found["d"], found["u"]) == (DatetimeMS(2**62), Binary(b"abc", 4))


@pytest.mark.parametrize(
    "raw", [b"", b"\0" * 4, document(ONE)[:-1], document(field(0x42, b"v", b"")), nested(3000, document(ONE))]
)
def test_what_is_no_document_is_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        decode(raw)


def test_a_large_odd_document_takes_no_longer_for_its_depth() -> None:
    """Each level must not be tried anew with the driver: that would take the depth times as long."""
    values = [field(2, b"%d" % n, text(b"x" * 100)) for n in range(2_000)]
    flat = document(field(4, b"v", document(*values, field(2, b"z", text(b"\xe9")))))
    deep = nested(150, flat)
    took = [0.0, 0.0]
    for _ in range(3):
        for n, raw in enumerate((flat, deep)):
            started = time.process_time()
            decode(raw)
            took[n] += time.process_time() - started
    assert took[1] < 20 * took[0]


@pytest.mark.parametrize("odd", [raw for raw in ODD.values() if raw.count(b"v\0")], ids=repr)
def test_each_odd_key_has_a_canonical_text_that_spells_it(odd: bytes) -> None:
    value = decode(document(odd)).get("v")
    key = canonical(value)
    assert key.isprintable()
    assert canonical(any_value_of(key)) == key
    if key.startswith("x:"):
        assert element(b"", any_value_of(key)) == element(b"", value)


def test_odd_keys_are_not_taken_for_one_another() -> None:
    values = [decode(document(raw)).get("v") for raw in (*ODD.values(), document(ONE), document(TWO))]
    assert len({canonical(value) for value in values}) >= len(ODD) - 2  # some have nothing in `v`


Name = st.text(st.characters(exclude_characters="\0"))
Usual = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_characters="\0")), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(exclude_characters="\0")), Usual, max_size=4), st.booleans())
def test_our_rules_and_the_driver_agree_on_all_that_is_usual(fields: dict[str, Any], odd: bool) -> None:
    try:
        raw = bson.encode(fields, codec_options=CODEC)
    except (bson.errors.InvalidDocument, UnicodeEncodeError):
        return
    by_driver = bson.decode(raw, CODEC)
    ours = decode(document(raw[4:-1], ODD["a string that is no UTF-8"]) if odd and "v" not in fields else raw)
    ours.pop("v", None) if odd and "v" not in fields else None
    assert encode(ours) == bson.encode(by_driver, codec_options=CODEC) == raw
    assert under("v", ours).raw == bson.encode({"v": by_driver}, codec_options=CODEC)
