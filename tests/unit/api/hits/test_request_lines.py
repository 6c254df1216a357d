"""Every line under which an answer may be kept names its key, and no line names another."""

import re
from typing import Any

import pytest
from bson.objectid import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.derived.sources import Sources
from neverstale.api.hits.request_lines import LINE, RequestLines
from neverstale.catalog import Resource
from neverstale.keys import canonical, value_of
from tests.support.sources import documents_of

KINDS: Any = ("string", "int", "objectid", "uuid")
SOURCES = {kind: documents_of(Resource(name=kind, key_type=kind)) for kind in KINDS}  # type: ignore[call-arg]
LINES = RequestLines(Sources(SOURCES, {}))


@given(st.text(min_size=1, max_size=40))
def test_every_spelling_names_its_key(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    for line in SOURCES["string"].lines(canonical(text)):
        assert LINES.find(line) == (SOURCES["string"], text)


@pytest.mark.parametrize(
    ("kind", "key"),
    [("int", "i:-7"), ("objectid", "o:5f0d1e2a3b4c5d6e7f809192"), ("uuid", "u:12345678123456781234567812345678")],
)
def test_keys_of_every_type_have_a_line(kind: str, key: str) -> None:
    [line] = SOURCES[kind].lines(key)
    assert LINES.find(line) == (SOURCES[kind], value_of(key))


@pytest.mark.parametrize(
    ("key", "kind"),
    [("a", "string"), ("é:/", "string"), (7, "int"), (ObjectId("5f0d1e2a3b4c5d6e7f809192"), "objectid")],
)
def test_an_entry_lies_under_the_canonical_text_of_its_key(key: Any, kind: str) -> None:
    assert SOURCES[kind].locate(key) == (f"ns:{kind}:d:{canonical(key)}".encode(), None)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /v1/string/a%zz HTTP/1.1",
        b"GET /v1/string/%ff HTTP/1.1",
        b"GET /v1/int/01 HTTP/1.1",
        b"GET /v1/string/" + b"%41" * 5000 + b" HTTP/1.1",
        b"GET /v1/string/" + b"a" * 4097 + b" HTTP/1.1",
        b"GET /v1/nothing/a HTTP/1.1",
        b"GET /v1/string/-/lists/all HTTP/1.1",
        b"PUT /v1/string/a HTTP/1.1",
        b"",
    ],
)
def test_a_line_that_names_no_key_is_not_answered_here(line: bytes) -> None:
    assert LINES.find(line) is None


@given(st.binary(max_size=60))
def test_a_line_is_read_only_if_it_has_nothing_but_characters_of_a_path(noise: bytes) -> None:
    match = LINE.fullmatch(b"GET /v1/string/" + noise + b" HTTP/1.1")
    assert (match is not None) == bool(re.fullmatch(rb"[A-Za-z0-9._~!$&'()*+,;=:@%-]+", noise))
