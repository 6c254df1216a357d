"""What caches between us and callers are told."""

import pytest
from pydantic import ValidationError

from neverstale.api.web.headers import document_tail, further_lines, moving, with_lines
from neverstale.api.web.shared_caches import SharedCaches
from neverstale.catalog import Catalog

RESOURCES = Catalog.model_validate(
    {
        "database": "d",
        "resources": {
            "flights": {"key_type": "string", "shared_max_age_seconds": 10},
            "airlines": {"key_type": "string", "shared_max_age_seconds": 60},
            "secrets": {"key_type": "string"},
        },
    }
).resources


def caches(closed: str = "") -> SharedCaches:
    return SharedCaches(RESOURCES, lambda name: name != closed)


def test_a_resource_may_be_kept_for_as_long_as_it_says() -> None:
    assert dict(caches().headers(["airlines"])) == {
        b"cdn-cache-control": b"max-age=60",
        b"cache-tag": b"airlines",
        b"surrogate-key": b"airlines",
        b"vary": b"neverstale-min-version",
    }
    assert caches().lines("flights") == caches().lines("flights.lists.departures") != b""


def test_an_answer_of_several_may_be_kept_for_the_shortest_of_them_and_has_all_tags() -> None:
    told = dict(caches().headers({"flights", "airlines"}))
    assert (told[b"cdn-cache-control"], told[b"cache-tag"]) == (b"max-age=10", b"airlines,flights")
    assert told[b"surrogate-key"] == b"airlines flights"


@pytest.mark.parametrize("names", [["secrets"], ["flights", "secrets"], ["unknown"]])
def test_an_answer_with_anything_else_may_not_be_kept(names: list[str]) -> None:
    assert caches().headers(names) == []


def test_what_not_everybody_may_read_is_kept_by_nobody() -> None:
    assert caches("flights").lines("flights") == b""
    assert caches("flights").headers(["flights", "airlines"]) == []


def test_without_a_bound_nothing_may_be_kept() -> None:
    assert b"cdn-cache-control: no-store" in moving(None)
    assert b"cdn-cache-control" not in moving(1.5)


@pytest.mark.parametrize("body", [b"{}", b"content-length: 5\r\n\r\n"])
def test_the_lines_in_a_tail_are_found_again(body: bytes) -> None:
    tail = document_tail(b"0" * 16, b"1" * 16, body)
    assert further_lines(tail) == b""
    assert further_lines(with_lines(tail, b"a: b\r\nc: d\r\n")) == b"a: b\r\nc: d\r\n"


def test_what_depends_on_who_asks_cannot_be_declared_so() -> None:
    declared = {"key_type": "string", "shared_max_age_seconds": 5, "tenant": {"field": "t", "claim": "t"}}
    with pytest.raises(ValidationError, match="a shared cache does not know"):
        Catalog.model_validate({"database": "d", "resources": {"r": declared}})
