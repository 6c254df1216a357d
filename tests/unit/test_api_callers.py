"""Who a request comes from: a header that was agreed on, the proxies that are ours, or the connection."""

import pytest

from api.callers import Callers, of_address, of_peer
from neverstale.settings import Limits

Headers = list[tuple[bytes, bytes]]


def forwarded(*values: bytes) -> Headers:
    return [(b"x-forwarded-for", value) for value in values]


def test_nothing_is_believed_by_default() -> None:
    assert Callers(Limits()).named([*forwarded(b"192.0.2.1"), (b"x-api-key", b"secret")]) == b""


def test_the_named_header_tells_callers_apart_and_is_not_repeated() -> None:
    callers = Callers(Limits(key_header="X-API-Key"))
    one, other = (callers.named([(b"x-api-key", key)]) for key in (b"one", b"other"))
    assert one != other
    assert b"one" not in one
    assert callers.named([(b"x-api-key", b"")]) == b""


@pytest.mark.parametrize(
    ("proxies", "values", "expected"),
    [
        (1, [b"192.0.2.1"], "192.0.2.1"),
        (1, [b"198.51.100.9, 192.0.2.1"], "192.0.2.1"),
        (1, [b"198.51.100.9", b"192.0.2.1"], "192.0.2.1"),
        (2, [b"198.51.100.9, 192.0.2.1, 203.0.113.5"], "192.0.2.1"),
        (2, [b"192.0.2.1"], None),
        (1, [b"192.0.2.1, not an address"], None),
        (1, [], None),
    ],
)
def test_only_what_our_own_proxies_appended_counts(proxies: int, values: list[bytes], expected: str | None) -> None:
    named = Callers(Limits(trusted_proxies=proxies)).named(forwarded(*values))
    assert named == (of_address(expected) if expected else b"")


def test_addresses_of_one_ipv6_network_are_one_caller() -> None:
    assert of_address("2001:db8::1") == of_address("2001:db8:0:0:ffff::2") != of_address("2001:db8:0:1::1")


def test_an_ipv4_address_written_as_ipv6_is_the_same_caller() -> None:
    assert of_address("::ffff:192.0.2.1") == of_address("192.0.2.1") != of_address("192.0.2.2")


def test_a_connection_without_an_address_is_a_caller_too() -> None:
    assert of_peer(None) == of_peer(("", 0)) != of_peer(("127.0.0.1", 1))
    assert of_peer(("127.0.0.1", 1)) == of_peer(("127.0.0.1", 2))
