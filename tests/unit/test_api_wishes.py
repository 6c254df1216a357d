"""Request headers as demands."""

import pytest

from api.problems import Problem
from api.wish import ANYTHING, Wish
from api.wishes import FOREVER, etags_of, wish_of


def wish(*cache_control: str) -> Wish:
    return wish_of([(b"cache-control", value.encode()) for value in cache_control])


def test_no_header_demands_nothing() -> None:
    assert wish_of([(b"host", b"api"), (b"accept", b"*/*")]) is ANYTHING


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("max-age=5", Wish(max_age_seconds=5)),
        ("max-age=0", Wish(max_age_seconds=0)),
        ('Max-Age="5"', Wish(max_age_seconds=5)),
        ("no-cache", Wish(no_cache=True)),
        ("only-if-cached, max-age=60", Wish(only_if_cached=True, max_age_seconds=60)),
        ("max-age=5,stale-if-error=600", Wish(max_age_seconds=5, stale_if_error_seconds=600)),
        ("max-age=99999999999999999999", Wish(max_age_seconds=FOREVER)),
        ("no-transform, max-stale=5, no-cache", Wish(no_cache=True)),
    ],
)
def test_directives_become_demands_and_others_are_ignored(header: str, expected: Wish) -> None:
    assert wish(header) == expected


def test_several_headers_count_as_one() -> None:
    assert wish("max-age=5", "only-if-cached") == Wish(max_age_seconds=5, only_if_cached=True)


@pytest.mark.parametrize("header", ["max-age=1.5", "max-age=", "max-age", "max-age=-1", "stale-if-error=soon"])
def test_seconds_that_are_none_are_refused(header: str) -> None:
    with pytest.raises(Problem, match="Cache-Control"):
        wish(header)


def test_the_highest_of_several_least_versions_counts() -> None:
    name = b"neverstale-min-version"
    found = wish_of([(name, b"000000000000000a"), (name, b"0000000000000003")])
    assert found == Wish(min_version=10)


@pytest.mark.parametrize("value", [b"", b"a", b"000000000000000A", b"00000000000000000", b"0x00000000000000"])
def test_a_version_is_16_lower_case_hex_digits(value: bytes) -> None:
    with pytest.raises(Problem, match="Neverstale-Min-Version"):
        wish_of([(b"neverstale-min-version", value)])


@pytest.mark.parametrize(
    ("header", "tags"),
    [(b'"a"', [b"a"]), (b'W/"a", "b"', [b"a", b"b"]), (b"*", [b"*"]), (b"", [b""]), (b'  "a"  ,"b"', [b"a", b"b"])],
)
def test_etags_are_compared_weakly(header: bytes, tags: list[bytes]) -> None:
    assert etags_of([(b"if-none-match", header)]) == tags
