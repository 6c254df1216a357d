"""Damage: what cannot be true is unknown, and is told of."""

import json

import pytest

from neverstale.role.damage import PART, Damage
from neverstale.role.service import Health
from neverstale.versions import to_hex
from tests.support.damaged import LAST


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"F" * 16, b"0" * 15, b"0" * 17, b"0" * 14 + b"\r\n", b"-" + b"0" * 15, b"\xff" * 16]
)
def test_what_is_no_version_is_unknown(raw: bytes) -> None:
    assert Damage().version("register", raw) is None
    assert Damage().register(raw) is None


def test_what_lies_ahead_is_unknown_and_what_is_told_of_shows_while_the_role_is_ready() -> None:
    health = Health({"redis": None})
    damage = Damage(lambda: LAST, health)
    assert damage.version("register", to_hex(LAST).encode()) == LAST
    assert (health.ready, PART in health.noted) == (True, False)
    assert damage.version("register", to_hex(LAST + 1).encode()) is None
    answer = health.answer()
    assert (answer.status_code, "register" in json.loads(bytes(answer.body))["parts"][PART]) == (200, True)


def test_a_wall_time_is_ahead_if_its_second_is() -> None:
    damage = Damage(lambda: 1_000 << 32)
    assert [damage.is_ahead(wall_ms) for wall_ms in (0, 1_000_999, 1_001_000, 2**60)] == [False, False, True, True]


@pytest.mark.parametrize("raw", [None, b"?" + b"0" * 16 + b":" + b"0" * 16])
def test_a_register_that_is_missing_or_claimed_is_no_damage(raw: bytes | None) -> None:
    health = Health()
    assert Damage(health=health).register(raw) is None
    assert not health.noted
