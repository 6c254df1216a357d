"""Watermarks in Redis: any bytes are what they should be, or unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.redis import watermarks
from neverstale.role.damage import MOST_PARTITIONS, Damage
from tests.support.damaged import LAST


@given(st.lists(st.none() | st.binary(max_size=60), max_size=4), st.none() | st.binary(max_size=12))
def test_any_bytes_are_watermarks_or_missing(values: list[bytes | None], count: bytes | None) -> None:
    damage = Damage(lambda: LAST)
    assert all(mark.version <= LAST for mark in watermarks.watermarks_of(values, damage).values())
    assert (watermarks.count_of(count, damage) or 0) <= MOST_PARTITIONS


@pytest.mark.parametrize("count", [b"0", b"-1", b"1000000000", b"1e3", b"", b" 4", b"10001", b"9" * 400])
def test_a_number_of_partitions_that_cannot_be_is_unknown(count: bytes) -> None:
    assert watermarks.count_of(count, Damage()) is None
