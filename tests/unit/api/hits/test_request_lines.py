"""Every line under which an answer may be kept names its key, and no line names another."""

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.hits.request_lines import LINE, spellings, targets
from neverstale.catalog import Catalog
from neverstale.keys import Names, canonical

TARGETS = targets(
    Catalog.model_validate(
        {
            "database": "shop",
            "resources": {kind: {"key_type": kind} for kind in ("string", "int", "objectid", "uuid")},
        }
    ),
    Names("ns"),
)


@given(st.text(min_size=1, max_size=40))
def test_every_spelling_names_its_key(text: str) -> None:
    try:
        expected = TARGETS[b"string"].entry_prefix + canonical(text).encode()
    except UnicodeEncodeError:
        return
    for line in spellings("string", canonical(text)):
        match = LINE.fullmatch(line)
        assert match is not None
        assert TARGETS[b"string"].entry_key(match[3]) == expected


@given(st.text("aZ9-._~!$&'()*+,;=:@/%é", min_size=1, max_size=12))
def test_spellings_are_what_clients_make_of_a_key(text: str) -> None:
    as_clients_do = {quote(text, safe=safe) for safe in ("!$&'()*+,;=:@", "!'()*", "")}
    lines = {f"GET /v1/things/{each} HTTP/1.1".encode() for each in as_clients_do}
    assert set(spellings("things", f"s:{text}")) == lines


@pytest.mark.parametrize(
    ("kind", "key"),
    [("int", "i:-7"), ("objectid", "o:5f0d1e2a3b4c5d6e7f809192"), ("uuid", "u:12345678123456781234567812345678")],
)
def test_keys_of_every_type_have_a_line(kind: str, key: str) -> None:
    [line] = spellings(kind, key)
    match = LINE.fullmatch(line)
    assert match is not None
    assert TARGETS[kind.encode()].entry_key(match[3]) == f"ns:{kind}:d:{key}".encode()


@pytest.mark.parametrize(
    "line",
    [
        b"GET /v1/string/a%zz HTTP/1.1",
        b"GET /v1/string/%ff HTTP/1.1",
        b"GET /v1/int/01 HTTP/1.1",
        b"GET /v1/string/" + b"%41" * 5000 + b" HTTP/1.1",
    ],
)
def test_a_segment_that_is_no_key_has_no_entry(line: bytes) -> None:
    match = LINE.fullmatch(line)
    assert match is not None
    assert TARGETS[match[2]].entry_key(match[3]) is None


@given(st.binary(max_size=60))
def test_a_line_is_read_only_if_it_has_nothing_but_characters_of_a_path(noise: bytes) -> None:
    match = LINE.fullmatch(b"GET /v1/string/" + noise + b" HTTP/1.1")
    assert (match is not None) == bool(re.fullmatch(rb"[A-Za-z0-9._~!$&'()*+,;=:@%-]+", noise))
