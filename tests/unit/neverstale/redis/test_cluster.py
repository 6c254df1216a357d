from typing import Any

import pytest
from redis.crc import key_slot

from neverstale.redis.cluster import _owners, _slot_of
from neverstale.settings.redis_url import Address

ASKED = Address("here", 1)


def test_a_node_that_does_not_know_its_own_name_is_where_it_was_asked() -> None:
    ranges: list[Any] = [[0, 1, [b"a", 7, b"id"], [b"replica", 8, b"id"]], [2, 2, [b"", 9, b"id"]], [3, 3, [None, 9]]]
    owners = _owners(ranges, ASKED)
    assert owners == {0: Address("a", 7), 1: Address("a", 7), 2: Address("here", 9), 3: Address("here", 9)}


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("GET", b"k{t}"), b"t"),
        ((b"MGET", b"{t}a", b"{t}b"), b"t"),
        (("EVALSHA", "sha", 2, b"{t}a", b"{t}b", "x"), b"t"),
        (("SPUBLISH", b"{t}c", b"message"), b"t"),
        (("PING",), None),
        ((b"INFO", b"server"), None),
        (("SCRIPT", "LOAD", b"return 1"), None),
    ],
)
def test_a_command_is_sent_to_whoever_holds_its_first_key(command: tuple[Any, ...], key: bytes | None) -> None:
    assert _slot_of(command) == (None if key is None else key_slot(key))
