"""Canonical keys, read back into the `_id`s that a refresh asks MongoDB for."""

import uuid

import pytest
from bson.objectid import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from neverstale.keys import KeyValue, canonical, value_of

VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(2**63), 2**63 - 1),
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
