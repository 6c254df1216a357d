"""Every line under which an answer may be kept names its key, and no line names another."""

import re
from typing import Any, cast

import pytest
from bson.objectid import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from neverstale.api.derived.generations import Known
from neverstale.api.derived.lookups import LookupSource
from neverstale.api.derived.sources import Sources, by_name
from neverstale.api.hits.request_lines import LINE, RequestLines
from neverstale.catalog import Resource
from neverstale.derived.redis_names import DerivedNames
from neverstale.keys import Names, canonical, value_of
from neverstale.redis.cache import Cache
from tests.support.sources import documents_of

KINDS: Any = ("string", "int", "objectid", "uuid")
SOURCES = {kind: documents_of(Resource(name=kind, key_type=kind)) for kind in KINDS}  # type: ignore[call-arg]
LINES = RequestLines(Sources(SOURCES))


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


# --- values that are looked up


class NoGeneration:
    """Nothing is derived yet."""

    names, moment = DerivedNames("ns", "users"), object()

    def for_list(self, name: str, digest: str) -> None:
        return None


USERS = Resource.model_validate(
    {
        "name": "users",
        "key_type": "int",
        "fields": {"email": "string", "no": "int"},
        "lookups": ["email", "no", "a.b"],
    }
)
LOOKUPS = {
    ("users", path): LookupSource(USERS, path, Cache(cast("Redis", None), Names("ns")), cast("Known", NoGeneration()))
    for path in USERS.lookups
}


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        (b"GET /v1/users/-/by/email/ann%40example.org HTTP/1.1", "email", "ann@example.org"),
        (b"HEAD /v1/users/-/by/email/ann@example.org HTTP/1.1", "email", "ann@example.org"),
        (b"GET /v1/users/-/by/no/-7 HTTP/1.1", "no", -7),
        (b"GET /v1/users/-/by/a.b/a%2Fb+c HTTP/1.1", "a.b", "a/b+c"),
    ],
)
def test_a_line_names_the_value_that_is_looked_up(line: bytes, path: str, value: Any) -> None:
    lines = RequestLines(Sources({}, by_name([LOOKUPS.values()])))
    source = LOOKUPS["users", path]
    assert lines.find(line) == (source, source.key(value))
    assert lines.find(line) is lines.find(line), "it is remembered"


@pytest.mark.parametrize(
    "line",
    [
        b"GET /v1/users/-/by/name/x HTTP/1.1",
        b"GET /v1/others/-/by/email/x HTTP/1.1",
        b"GET /v1/users/-/by/email/ HTTP/1.1",
        b"GET /v1/users/-/by/email/x?y=1 HTTP/1.1",
        b"GET /v1/users/-/by/email/%zz HTTP/1.1",
        b"GET /v1/users/-/by/no/07 HTTP/1.1",
        b"GET /v1/users/-/by/email/" + b"x" * 511 + b" HTTP/1.1",
        b"PUT /v1/users/-/by/email/x HTTP/1.1",
    ],
)
def test_a_line_that_names_no_value_takes_the_ordinary_way(line: bytes) -> None:
    assert RequestLines(Sources({}, by_name([LOOKUPS.values()]))).find(line) is None


def test_a_document_is_found_again_by_its_line() -> None:
    lines = RequestLines(Sources(SOURCES))
    line = b"GET /v1/string/a HTTP/1.1"
    assert lines.find(line) is lines.find(line)


def test_made_up_keys_are_remembered_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neverstale.api.hits.request_lines.MOST", 10)
    lines = RequestLines(Sources(SOURCES))
    for number in range(25):
        assert lines.find(b"GET /v1/int/%d HTTP/1.1" % number) == (SOURCES["int"], number)
    assert lines.find(b"GET /v1/string/" + b"x" * 400 + b" HTTP/1.1") == (SOURCES["string"], "x" * 400)
    assert len(lines._named) <= 10
    assert not any(len(line) > 256 for line in lines._named)


def test_made_up_values_are_remembered_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neverstale.api.hits.request_lines.MOST", 10)
    lines = RequestLines(Sources({}, by_name([LOOKUPS.values()])))
    for number in range(25):
        assert lines.find(b"GET /v1/users/-/by/no/%d HTTP/1.1" % number) is not None
    assert len(lines._looked_up) <= 10
