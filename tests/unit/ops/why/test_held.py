"""Where the processes of the API are asked, whatever their cards say."""

import pytest

from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.why.held import address_of, addresses_of


def card(url: str, role: str = "api") -> RoleStatus:
    return RoleStatus(role, "h-1", 1, "host-1", url, 0, "1")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://0.0.0.0:8000", "http://host-1:8000"),
        ("http://[::]:8000", "http://host-1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("", None),
        ("http://", None),
        ("http://h", None),
        ("http://h:x", None),
        ("http://h:99999", None),
        ("http://[h:1", None),
        ("file:///etc/passwd", None),
        ("https://h:1", None),
    ],
)
def test_a_card_that_names_no_address_is_asked_nothing(url: str, address: str | None) -> None:
    assert address_of(card(url)) == address


def test_each_process_of_the_api_counts_and_no_other_role() -> None:
    roles = [card("http://h:1"), card("http://h:1"), card("", "consumer"), card("http://h:2", "watcher"), card("")]
    assert addresses_of(roles) == ["http://h:1", "http://h:1"]
