"""Raw BSON from callers: what a driver writes is taken, and nothing else, however its lengths lie."""

import bson
import hypothesis
import pytest
from bson.binary import Binary
from bson.code import Code
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp
from hypothesis import strategies as st

from neverstale.api.web.well_formed import IllFormed, check_document
from neverstale.bson.values import CODEC, decode

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(),
    st.text(),
    st.binary(),
    st.builds(Binary, st.binary(), st.sampled_from((0, 2, 5, 128))),
    st.sampled_from(
        (
            ObjectId(),
            MinKey(),
            MaxKey(),
            Timestamp(1, 2),
            Regex("a", "i"),
            Decimal128("1E+5000"),
            Code("f()"),
            Code("f()", {"a": {"b": 1}}),
            DBRef("c", 1, "d"),
        )
    ),
)
NAMES = st.text(max_size=5).filter(lambda name: "\0" not in name)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4))
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=5).map(
    lambda document: bson.encode(document, codec_options=CODEC)
)


@hypothesis.given(DOCUMENTS)
def test_what_a_driver_writes_is_well_formed(data: bytes) -> None:
    check_document(data)


@hypothesis.given(DOCUMENTS, st.data())
def test_nothing_may_be_missing_or_follow(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data) - 1))
    for wrong in (data[:cut], data + b"\0", data + data):
        with pytest.raises(IllFormed):
            check_document(wrong)


@hypothesis.given(DOCUMENTS, st.data())
def test_a_changed_byte_is_found_or_leaves_a_document_that_we_read(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    changed = data[:at] + bytes((draw.draw(st.integers(0, 255)),)) + data[at + 1 :]
    try:
        check_document(changed)
    except IllFormed:
        return
    decode(changed)


def test_an_inner_document_cannot_end_before_or_behind_its_place() -> None:
    good = bson.encode({"a": {"b": 1}, "c": 2})
    inner = good.index(b"\3a\0") + 3
    for length in range(-5, 60):
        if length != 12:
            wrong = good[:inner] + length.to_bytes(4, "little", signed=True) + good[inner + 4 :]
            with pytest.raises(IllFormed):
                check_document(wrong)


def test_levels_are_counted() -> None:
    deep: object = 1
    for _ in range(9):
        deep = {"a": deep}
    check_document(bson.encode({"": deep}), max_levels=10)
    with pytest.raises(IllFormed):
        check_document(bson.encode({"": deep}), max_levels=9)
    with pytest.raises(IllFormed):
        check_document(bson.encode({"": Code("f()", {"a": deep})}), max_levels=10)
