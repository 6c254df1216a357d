"""ETags are read as a grammar, and preconditions are evaluated as RFC 9110 section 13 says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.web.preconditions import NO_CONDITIONS, Tags, Verdict, conditions_of, tags_of
from neverstale.api.web.problems import Problem
from neverstale.versions import to_hex

ETAG = b"0123456789abcdef"
VERSION = 1_700_000_000 << 32 | 5
"""Tue, 14 Nov 2023 22:13:20 GMT."""


def verdict(*lines: str) -> Verdict:
    headers = [line.encode("latin-1").split(b": ", 1) for line in lines]
    return conditions_of([(name.lower(), value) for name, value in headers]).verdict(ETAG, to_hex(VERSION).encode())


@pytest.mark.parametrize(
    ("value", "strong", "weak"),
    [
        (b"", [], []),
        (b" , ,", [], []),
        (b'"a"', [b"a"], []),
        (b'W/"a"', [], [b"a"]),
        (b'W/"a", "b"', [b"b"], [b"a"]),
        (b'"a","b"', [b"a", b"b"], []),
        (b'\t"a"  ,, "b" ,', [b"a", b"b"], []),
        (b'""', [b""], []),
        (b'"a,b"', [b"a,b"], []),
        (b'"a, W/b", W/"c,"', [b"a, W/b"], [b"c,"]),
        (b'"a b"', [b"a b"], []),
        (b'"a\\"', [b"a\\"], []),
        (b'"a\\", "b"', [b"a\\", b"b"], []),
        (b'"*"', [b"*"], []),
        (b'"W/"', [b"W/"], []),
        (b'"\xe9\xff"', [b"\xe9\xff"], []),
    ],
)
def test_tags_are_what_stands_between_quotes(value: bytes, strong: list[bytes], weak: list[bytes]) -> None:
    assert tags_of([value], "If-Match") == Tags(frozenset(strong + weak), frozenset(strong))


def test_several_lines_are_one_list() -> None:
    assert tags_of([b'"a"', b'W/"b"'], "If-Match") == tags_of([b'"a",W/"b"'], "If-Match")
    assert tags_of([b" * "], "If-Match") == Tags(any=True)


MALFORMED = [
    ["a"],
    ['"a'],
    ['a"'],
    ['"a" "b"'],
    ['"a"b'],
    ['a"b"'],
    ['w/"a"'],
    ["W/a"],
    ['W/ "a"'],
    ['W / "a"'],
    ['"a";"b"'],
    ['"a"", "b"'],
    ["**"],
    ["*", "*"],
    ['*, "a"'],
    ['"a", *'],
    ["'a'"],
    ['"a", b'],
    ['"a', 'b"x'],
]


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("lines", MALFORMED)
def test_what_is_no_list_of_tags_is_refused(lines: list[str], header: str) -> None:
    with pytest.raises(Problem, match=header) as problem:
        conditions_of([(header.lower().encode(), line.encode()) for line in lines])
    assert (problem.value.status, problem.value.members["parameter"]) == (400, header)


@given(st.lists(st.tuples(st.booleans(), st.binary().filter(lambda tag: b'"' not in tag))))
def test_any_list_of_tags_is_read_back(tags: list[tuple[bool, bytes]]) -> None:
    written = b", ".join(b'%b"%b"' % (b"W/" if weak else b"", tag) for weak, tag in tags)
    found = tags_of([written], "If-Match")
    assert found.listed == {tag for _, tag in tags}
    assert found.strong == {tag for weak, tag in tags if not weak}


@given(st.text('W/"*, ab\\', max_size=12))
def test_nothing_is_a_mistake(value: str) -> None:
    try:
        tags_of([value.encode()], "If-Match")
    except Problem as problem:
        assert problem.status == 400


OURS, WEAK, OTHER = '"0123456789abcdef"', 'W/"0123456789abcdef"', '"other"'
BEFORE, SAME, AFTER = (f"Tue, 14 Nov 2023 22:13:{second} GMT" for second in (19, 20, 21))
SINCE = "If-Unmodified-Since"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], 200),
        # If-None-Match: weakly
        ([f"If-None-Match: {OURS}"], 304),
        ([f"If-None-Match: {WEAK}"], 304),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "*"'], 200),
        ([f"If-None-Match: {OTHER}"], 200),
        ([f"If-None-Match: {OTHER}, {WEAK}"], 304),
        ([f"If-None-Match: {OTHER}", f"If-None-Match: {OURS}"], 304),
        (['If-None-Match: "a,0123456789abcdef,b"'], 200),
        (['If-None-Match: "a,", "0123456789abcdef"'], 304),
        (["If-None-Match:  "], 200),
        # If-Match: strongly
        ([f"If-Match: {OURS}"], 200),
        ([f"If-Match: {WEAK}"], 412),
        (["If-Match: *"], 200),
        ([f"If-Match: {OTHER}"], 412),
        ([f"If-Match: {OTHER}, {OURS}"], 200),
        ([f"If-Match: {OTHER}", f"If-Match: {OURS}"], 200),
        ([f"If-Match: {WEAK}, {OTHER}"], 412),
        (['If-Match: "a,0123456789abcdef,b"'], 412),
        (["If-Match:  "], 412),
        # If-Unmodified-Since: the version was read at that second, or earlier
        ([f"{SINCE}: {BEFORE}"], 412),
        ([f"{SINCE}: {SAME}"], 200),
        ([f"{SINCE}: {AFTER}"], 200),
        ([f"{SINCE}: Thu, 01 Jan 1970 00:00:00 GMT"], 412),
        ([f"{SINCE}: Fri, 31 Dec 9999 23:59:59 GMT"], 200),
        ([f"{SINCE}: Sunday, 06-Nov-94 08:49:37 GMT"], 412),
        ([f"{SINCE}: Sun Nov  6 08:49:37 1994"], 412),
        # no date: ignored (section 13.1.4)
        ([f"{SINCE}: yesterday"], 200),
        ([f"{SINCE}: "], 200),
        ([f"{SINCE}: 1994-11-06"], 200),
        ([f"{SINCE}: Sun, 06 Nov 1994 08:49:37 +0100"], 200),
        ([f"{SINCE}: Sun, 31 Feb 1994 08:49:37 GMT"], 200),
        ([f"{SINCE}: {BEFORE}", f"{SINCE}: {BEFORE}"], 200),
        # together, in order (section 13.2.2)
        ([f"If-Match: {OURS}", f"If-None-Match: {OURS}"], 304),
        ([f"If-Match: {OTHER}", f"If-None-Match: {OURS}"], 412),
        ([f"If-Match: {OURS}", f"{SINCE}: {BEFORE}"], 200),
        ([f"If-Match: {OTHER}", f"{SINCE}: {AFTER}"], 412),
        ([f"{SINCE}: {BEFORE}", f"If-None-Match: {OURS}"], 412),
        ([f"{SINCE}: {AFTER}", f"If-None-Match: {OURS}"], 304),
        # what we cannot know is ignored
        ([f"If-Modified-Since: {AFTER}"], 200),
        ([f"If-Modified-Since: {AFTER}", f"If-None-Match: {OTHER}"], 200),
        ([f"If-Range: {OURS}", "Range: bytes=0-1"], 200),
    ],
)
def test_preconditions_are_evaluated_in_order(lines: list[str], expected: Verdict) -> None:
    assert verdict(*lines) == expected
    assert verdict(*reversed(lines)) == expected, "the order of headers means nothing"


def test_most_requests_have_none() -> None:
    assert conditions_of([(b"host", b"a"), (b"if-modified-since", b"x")]) is NO_CONDITIONS


@pytest.mark.parametrize("value", [b"\n", b'"a"\n', b'"a",\n', b'W/"a" \n', b"\n\n"])
def test_a_line_feed_is_no_end_of_a_list(value: bytes) -> None:
    with pytest.raises(Problem):
        conditions_of([(b"if-none-match", value)])
