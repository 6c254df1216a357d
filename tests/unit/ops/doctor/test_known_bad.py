"""Which versions are known to be bad."""

import pytest

from neverstale.ops.doctor.known_bad import KNOWN_BAD, why_bad


@pytest.mark.parametrize(
    ("server", "version", "levels"),
    [
        ("mongodb", "5.0.2", ["problem", "warning"]),
        ("mongodb", "5.0.31", ["warning"]),
        ("mongodb", "5.0.32", []),
        ("mongodb", "6.0.5", ["warning"]),
        ("mongodb", "8.0.23", []),
        ("mongodb", "8.0.3-rc1", ["warning", "warning"]),
        ("redis", "7.0.15", ["warning"]),
        ("redis", "7.2.11", []),
        ("redis", "8.2.9", []),
        ("redis", "nonsense", []),
    ],
)
def test_versions_are_compared_as_numbers_within_their_series(server: str, version: str, levels: list[str]) -> None:
    assert [bad.level for bad in why_bad(server, version)] == levels


def test_every_range_ends_in_a_later_version() -> None:
    assert all(bad.first < bad.fixed for bad in KNOWN_BAD)
