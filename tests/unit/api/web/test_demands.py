"""Request headers as demands, and those that demand nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.reads.answer import ANYTHING, AUDIT, Wish
from neverstale.api.web.demands import FOREVER, PLAIN, Plain, plain_of, wish_of
from neverstale.api.web.preconditions import Conditions, Tags
from neverstale.api.web.problems import Problem


def holding(tags: Tags) -> Plain:
    """A caller that has what these name."""
    return Plain(conditions=Conditions(none_match=tags))


def wish(*cache_control: str) -> Wish:
    return wish_of([(b"cache-control", value.encode()) for value in cache_control])


def test_an_audit_demands_nothing_by_being_one() -> None:
    label = (b"neverstale-audit", b"1")
    assert wish_of([label]) is AUDIT
    assert wish_of([label, (b"cache-control", b"no-cache")]) == Wish(no_cache=True, audit=True)
    assert plain_of([label]) == Plain(audit=True)
    assert plain_of([label, (b"accept-encoding", b"gzip")]) == Plain(b"gzip", audit=True)


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
        ("max-age=000000000000000000005", Wish(max_age_seconds=5)),
        ("max-age=" + "9" * 60_000, Wish(max_age_seconds=FOREVER)),
        ("max-age=0000", Wish(max_age_seconds=0)),
        ("max-age=2147483648", Wish(max_age_seconds=FOREVER)),
        (r'max-age="\5"', Wish(max_age_seconds=5)),
        (",, max-age=5 ,\t, no-cache,", Wish(max_age_seconds=5, no_cache=True)),
        ("NO-CACHE,Only-If-Cached", Wish(no_cache=True, only_if_cached=True)),
        ('ext="a,no-cache,max-age=0"', ANYTHING),
        (r'ext="a\",no-cache,\"b", max-age=7', Wish(max_age_seconds=7)),
        ("no-cache-ever, max-age-ish=1, xno-cache", ANYTHING),
        ('max-stale, min-fresh=x, private="set-cookie, no-cache"', ANYTHING),
        ("", ANYTHING),
        (" , ", ANYTHING),
    ],
)
def test_directives_become_demands_and_others_are_ignored(header: str, expected: Wish) -> None:
    assert wish(header) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["max-age=5", "only-if-cached"], Wish(max_age_seconds=5, only_if_cached=True)),
        (["max-age=5, max-age=60"], Wish(max_age_seconds=5)),
        (["max-age=60, max-age=5"], Wish(max_age_seconds=5)),
        (["max-age=60", "max-age=5"], Wish(max_age_seconds=5)),
        (["max-age=5", "max-age=60"], Wish(max_age_seconds=5)),
        (["max-age=0", "max-age=60"], Wish(max_age_seconds=0)),
        (["stale-if-error=600, stale-if-error=60"], Wish(stale_if_error_seconds=60)),
        (["stale-if-error=60", "stale-if-error=600"], Wish(stale_if_error_seconds=60)),
        (["no-cache", "max-age=60", "no-cache"], Wish(no_cache=True, max_age_seconds=60)),
        (["only-if-cached", "no-cache"], Wish(only_if_cached=True, no_cache=True)),
    ],
)
def test_the_strictest_of_what_is_said_twice_counts(headers: list[str], expected: Wish) -> None:
    assert wish(*headers) == wish(", ".join(headers)) == expected


MALFORMED = [
    "max-age=1.5",
    "max-age=",
    "max-age",
    "max-age=-1",
    "max-age=+1",
    "max-age=1e3",
    "max-age=0x5",
    "max-age=5s",
    "max-age= 5",
    "max-age =5",
    "max-age 5",
    "max-age=5 6",
    "max-age=5;no-cache",
    'max-age="5',
    'max-age=5"',
    'max-age=""',
    'max-age="-5"',
    'max-age="5" 6',
    "max-age=5, max-age=soon",
    "max-age=soon, max-age=5",
    "max-age=\xb2",
    "stale-if-error=soon",
    "stale-if-error=-1",
    "stale-if-error=1.5",
    "stale-if-error",
    "no-cache=1",
    'no-cache="set-cookie"',
    "no-cache=",
    "only-if-cached=true",
    "=5",
    "(max-age=5)",
    '"no-cache"',
    "no-cache\xe9",
    "a/b",
]


@pytest.mark.parametrize("header", MALFORMED)
def test_directives_that_make_no_sense_are_refused(header: str) -> None:
    for value in (header, f"only-if-cached, {header}", f"{header}, only-if-cached"):
        with pytest.raises(Problem, match="Cache-Control") as problem:
            wish_of([(b"cache-control", value.encode("latin-1"))])
        assert problem.value.members["parameter"] == "Cache-Control"


@given(st.binary(max_size=60))
def test_no_header_leads_to_anything_but_demands_or_a_problem(value: bytes) -> None:
    for name in (b"cache-control", b"neverstale-min-version"):
        try:
            wish_of([(name, value)])
        except Problem as problem:
            assert problem.status == 400


def test_the_highest_of_several_least_versions_counts() -> None:
    name = b"neverstale-min-version"
    found = wish_of([(name, b"000000000000000a"), (name, b"0000000000000003")])
    assert found == Wish(min_version=10)
    assert wish_of([(name, b"000000000000000a, 0000000000000003 ,")]) == found
    assert wish_of([(name, b"0000000000000003,000000000000000a")]) == found


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"a",
        b"000000000000000A",
        b"00000000000000000",
        b"0x00000000000000",
        b",",
        b"000000000000000a b",
        b"000000000000000a,x",
        b"\xff" * 16,
    ],
)
def test_a_version_is_16_lower_case_hex_digits(value: bytes) -> None:
    with pytest.raises(Problem, match="Neverstale-Min-Version"):
        wish_of([(b"neverstale-min-version", value)])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], PLAIN),
        ([(b"host", b"x"), (b"connection", b"Keep-Alive"), (b"user-agent", b"y")], PLAIN),
        ([(b"accept-encoding", b"gzip, deflate")], Plain(b"gzip")),
        ([(b"accept-encoding", b"gzip, br")], Plain(b"br")),
        ([(b"accept-encoding", b"br;q=0.5, gzip;q=0.8")], Plain(b"gzip")),
        ([(b"accept-encoding", b"br;q=none, x-gzip")], Plain(b"gzip")),
        ([(b"accept-encoding", b"gzip;q=0, br; q=0.0, zstd")], PLAIN),
        (
            [(b"if-none-match", b'"a", W/"b"')],
            holding(Tags(frozenset((b"a", b"b")), frozenset((b"a",)))),
        ),
        (
            [(b"if-none-match", b'"a,b"')],
            holding(Tags(frozenset((b"a,b",)), frozenset((b"a,b",)))),
        ),
        ([(b"if-none-match", b"a")], None),
        ([(b"if-match", b"*")], None),
        ([(b"if-unmodified-since", b"x")], None),
        ([(b"connection", b"close")], None),
        ([(b"connection", b"keep-alive, upgrade")], None),
        ([(b"content-length", b"0")], None),
        ([(b"transfer-encoding", b"chunked")], None),
        ([(b"expect", b"100-continue")], None),
        ([(b"cache-control", b"max-age=5")], None),
        ([(b"neverstale-min-version", b"0" * 16)], None),
    ],
)
def test_headers_that_ask_for_more_than_a_hit_are_not_plain(
    headers: list[tuple[bytes, bytes]], expected: Plain | None
) -> None:
    assert plain_of(headers) == expected


@pytest.mark.parametrize("value", [b"\n", b"max-age=5\n", b"max-age=5,\n", b'a="b"\n', b" \n", b"\n\n"])
def test_a_line_feed_is_no_end_of_a_list(value: bytes) -> None:
    """No server lets one through; whatever comes is read in a time that its length bounds."""
    with pytest.raises(Problem):
        wish_of([(b"cache-control", value)])
