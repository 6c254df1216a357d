"""Versions as integers, as text and as BSON timestamps."""

import pytest
from bson.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from neverstale import versions

VERSIONS = st.integers(0, 2**64 - 1)


@given(VERSIONS)
def test_a_version_survives_its_text(version: int) -> None:
    assert versions.from_hex(versions.to_hex(version)) == version
    assert versions.from_hex(versions.to_hex(version).encode()) == version


@given(VERSIONS, VERSIONS)
def test_text_order_is_time_order(one: int, other: int) -> None:
    assert (versions.to_hex(one) < versions.to_hex(other)) == (one < other)


@given(VERSIONS)
def test_a_version_survives_its_timestamp(version: int) -> None:
    assert versions.from_timestamp(versions.to_timestamp(version)) == version


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_timestamp_survives_its_version(time: int, increment: int) -> None:
    assert versions.to_timestamp(versions.from_timestamp(Timestamp(time, increment))) == Timestamp(time, increment)


@given(VERSIONS, VERSIONS)
def test_version_order_is_timestamp_order(one: int, other: int) -> None:
    assert (versions.to_timestamp(one) < versions.to_timestamp(other)) == (one < other)


def test_zero_is_older_than_every_real_version() -> None:
    assert versions.to_hex(versions.from_timestamp(Timestamp(0, 1))) > versions.ZERO


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0" * 15,
        "0" * 17,
        "A" * 16,
        "g" * 16,
        " " + "0" * 15,
        "0x" + "0" * 14,
        "1_0" * 4 + "0000",
        "\u0660" * 16,
    ],
)
def test_anything_but_16_lower_case_hex_digits_is_no_version(text: str) -> None:
    with pytest.raises(ValueError):
        versions.from_hex(text)
    with pytest.raises(ValueError):
        versions.from_hex(text.encode())


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.text("0123456789ABCDEF"))
def test_a_resume_token_starts_with_its_version(time: int, increment: int, rest: str) -> None:
    data = f"82{time:08X}{increment:08X}{rest}"
    assert versions.of_resume_token(data) == versions.from_timestamp(Timestamp(time, increment))


@pytest.mark.parametrize("data", ["", "82", "8265A1B2C3", "8165A1B2C300000001", "82" + "Z" * 16])
def test_what_does_not_start_with_a_timestamp_is_no_resume_token(data: str) -> None:
    with pytest.raises(ValueError):
        versions.of_resume_token(data)
