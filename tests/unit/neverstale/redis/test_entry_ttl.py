"""Lives of entries: declared, jittered, and never beyond the document's own end."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from bson.datetime_ms import DatetimeMS

from neverstale.redis.entry_ttl import expiry_of, first_expiry, ttl_ms

DECLARED = SimpleNamespace(ttl_seconds=100, absent_ttl_seconds=10)


@pytest.mark.parametrize(("chance", "life"), [(0.0, 90_000), (0.5, 100_000), (1.0, 110_000)])
def test_a_life_is_at_most_a_tenth_longer_or_shorter_than_declared(chance: float, life: int) -> None:
    assert ttl_ms(DECLARED, b"{}", None, 0, chance) == life


def test_an_absence_has_a_life_of_its_own() -> None:
    assert ttl_ms(DECLARED, None, None, 0, 0.5) == 10_000


def test_nothing_is_kept_beyond_its_own_end() -> None:
    assert ttl_ms(DECLARED, b"{}", 1_030_000, 1_000_000, 0.5) == 30_000
    assert ttl_ms(DECLARED, b"{}", 9_000_000, 1_000_000, 0.5) == 100_000


def test_what_has_ended_is_not_kept_at_all() -> None:
    assert ttl_ms(DECLARED, b"{}", 999_999, 1_000_000, 0.5) <= 0


def test_only_a_date_says_when_a_document_ends() -> None:
    end = datetime(2026, 11, 23, 12, 0, 0, 5000, UTC)
    assert expiry_of({"at": end}, "at") == 1_795_435_200_005
    assert expiry_of({"at": DatetimeMS(2**60)}, "at") == 2**60
    assert [expiry_of(document, "at") for document in ({}, {"at": None}, {"at": "2026"}, {"at": 5})] == [None] * 4


def test_a_page_ends_with_the_first_of_its_documents() -> None:
    rows = [{"at": DatetimeMS(7)}, {}, {"at": DatetimeMS(5)}]
    assert (first_expiry(rows, "at"), first_expiry(rows, None), first_expiry([], "at")) == (5, None, None)
