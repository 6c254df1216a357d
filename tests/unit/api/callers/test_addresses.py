"""Who a request comes from: a header that was agreed on, the proxies that are ours, or the connection."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.callers.addresses import Addresses, of_address, of_peer
from neverstale.settings import Limits

Headers = list[tuple[bytes, bytes]]


def forwarded(*values: bytes) -> Headers:
    return [(b"x-forwarded-for", value) for value in values]


def test_nothing_is_believed_by_default() -> None:
    assert Addresses(Limits()).named([*forwarded(b"192.0.2.1"), (b"x-api-key", b"secret")]) == b""


def test_the_named_header_tells_callers_apart_and_is_not_repeated() -> None:
    callers = Addresses(Limits(key_header="X-API-Key"))
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
        (1, [b"192.0.2.1, unknown"], None),
        (1, [b"192.0.2.1, _hidden"], None),
        (1, [b"192.0.2.1,"], None),
        (1, [b"192.0.2.1", b""], None),
        (1, [b""], None),
        (2, [b"unknown, 192.0.2.1:80 ,\t203.0.113.5:443"], "192.0.2.1"),
        (2, [b"198.51.100.9", b"192.0.2.1:80", b"[2001:db8::5]:443"], "192.0.2.1"),
        (1, [b"192.0.2.1, " + b"1" * 60_000], None),
        (1, [b"192.0.2.1, \xb9.2.3.4"], None),
        (1, [], None),
    ],
)
def test_only_what_our_own_proxies_appended_counts(proxies: int, values: list[bytes], expected: str | None) -> None:
    named = Addresses(Limits(trusted_proxies=proxies)).named(forwarded(*values))
    assert named == (of_address(expected) if expected else b"")


def test_addresses_of_one_ipv6_network_are_one_caller() -> None:
    assert of_address("2001:db8::1") == of_address("2001:db8:0:0:ffff::2") != of_address("2001:db8:0:1::1")


def test_an_ipv4_address_written_as_ipv6_is_the_same_caller() -> None:
    assert of_address("::ffff:192.0.2.1") == of_address("192.0.2.1") != of_address("192.0.2.2")


def test_a_connection_without_an_address_is_a_caller_too() -> None:
    assert of_peer(None) == of_peer(("", 0)) != of_peer(("127.0.0.1", 1))
    assert of_peer(("127.0.0.1", 1)) == of_peer(("127.0.0.1", 2))


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("192.0.2.1:4711", "192.0.2.1"),
        ("192.0.2.1:0", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1:4711", "2001:db8::1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("[::ffff:c000:201]:80", "192.0.2.1"),
    ],
)
def test_an_address_is_the_same_with_brackets_and_a_port(written: str, address: str) -> None:
    assert of_address(written) == of_address(address) != b""


@pytest.mark.parametrize(
    "written",
    [
        "",
        ":80",
        "192.0.2.1:",
        "192.0.2.1:http",
        "192.0.2.1:123456",
        "192.0.2.1:80:80",
        "192.0.2.256",
        "192.0.2",
        "192.0.2.01",
        "1",
        "[192.0.2.1",
        "[2001:db8::1",
        "[2001:db8::1]80",
        "[]:80",
        "[[::1]]",
        "2001:db8:::1",
        "2001:db8:0:0:0:0:0:0:1:4711",
        "unknown",
        "_hidden",
        "localhost",
        "\u0661.2.3.4",
        "::1" + " " * 100,
    ],
)
def test_what_is_no_address_is_nobody(written: str) -> None:
    assert of_address(written) == b""


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_any_address_is_told_from_its_port(address: IPv4Address | IPv6Address, port: int) -> None:
    written = f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
    named = Addresses(Limits(trusted_proxies=1)).named(forwarded(b"10.0.0.1, " + written.encode()))
    assert named == of_address(str(address)) != b""


@given(st.binary(max_size=100))
def test_nothing_that_is_forwarded_is_a_mistake(value: bytes) -> None:
    Addresses(Limits(trusted_proxies=2)).named(forwarded(value))
