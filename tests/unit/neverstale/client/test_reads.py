"""How what is asked for is spelled, and what is made of an answer's JSON."""

import datetime
import uuid
from decimal import Decimal
from typing import Any

import pytest
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from neverstale.api.web.query import asked
from neverstale.catalog import Resource
from neverstale.client import reads
from neverstale.client.failures import ServerFault, Unintelligible
from neverstale.client.reads import MOST_KEYS, MOST_LETTERS, GroupCount, RankedKey

NAMES = ("f", "limit", "a b", "ü.x")
THINGS = Resource.model_validate({"name": "things", "key_type": "string"})
VALUES = [
    "text",
    "a&b=c/d?e",
    "",
    "null",
    7,
    -(2**63),
    1.5,
    True,
    False,
    None,
    Decimal("1.50"),
    Decimal128("1E+500"),
    datetime.datetime(2013, 2, 8, 14, 5, 0, 7000, datetime.UTC),
    datetime.datetime(2013, 2, 8, 9, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=-5))),
    ObjectId("5f0d1e2a3b4c5d6e7f809192"),
    uuid.UUID(int=7),
    b"\x00\xff",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_the_api_reads_every_value_as_it_was_meant(name: str, value: Any) -> None:
    path = reads.page("things", "all", {name: value}).path
    found = asked(path.partition("?")[2].encode(), THINGS, (name,), ("limit",), whole=True).values[name]
    expected = Decimal128(value) if isinstance(value, Decimal) else value
    assert found == expected and type(found) is type(expected)


def test_what_cannot_be_spelled_is_said() -> None:
    with pytest.raises(TypeError, match="a set cannot be asked for"):
        reads.count("things", "all", {"f": {1}})


@pytest.mark.parametrize("nothing", [None, "", b""])
def test_nobody_is_looked_up_by_nothing(nothing: Any) -> None:
    with pytest.raises(ValueError, match="by nothing"):
        reads.by_field("users", "email", nothing)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a/b c", "/v1/things/a%2Fb%20c"),
        (".", "/v1/things/%2E"),
        ("..", "/v1/things/%2E%2E"),
        (42, "/v1/things/42"),
        (uuid.UUID(int=1), "/v1/things/00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_key_is_one_segment_of_the_path(key: Any, path: str) -> None:
    assert reads.document("things", key).path == path


def test_each_kind_has_its_path() -> None:
    assert reads.by_field("users", "email", "a@b").path == "/v1/users/-/by/email/a%40b"
    assert reads.page("f", "l", {"o": "J"}, "c").path == "/v1/f/-/lists/l?o=J&cursor=c"
    assert reads.counts("f", "c", {}, ["a", "b,c"], 5).path == "/v1/f/-/counters/c?limit=5&group=a,b%2Cc"
    assert reads.counts("f", "c", {}, []).path == "/v1/f/-/counters/c?group="
    assert reads.rank("f", "r", "a?", {"d": 1}, 2).path == "/v1/f/-/rankings/r/a%3F?d:int=1&around=2"
    assert reads.documents("f", ["a,b", "c"]).path == "/v1/f?keys=a%2Cb,c"


def test_keys_leave_in_as_many_requests_as_they_need() -> None:
    short = [f"k{number}" for number in range(MOST_KEYS + 1)]
    assert [len(some) for some in reads.portions(short)] == [MOST_KEYS, 1]
    long = ["é" * 300 for _ in range(10)]
    portions = list(reads.portions(long))
    assert [key for some in portions for key in some] == long
    assert all(len(reads.documents("f", some).path) <= MOST_LETTERS + 1900 for some in portions)
    assert list(reads.portions([])) == []


def test_answers_are_what_they_mean() -> None:
    count = reads.made(reads.count("f", "c", {}), b'{"count":2,"sums":{"m":1.5},"averages":{"m":null}}')
    assert count == GroupCount(2, {"m": 1.5}, {"m": None})
    body = b'{"groups":[{"by":{"s":"a"},"count":1,"sums":{}}],"more":true,"total":{"count":3,"sums":{}}}'
    counts = reads.made(reads.counts("f", "c", {}), body)
    assert (counts.groups[0][0], counts.more, counts.total.count) == ({"s": "a"}, True, 3)
    place = b'{"key":"a","score":3,"rank":2,"around":[{"key":"b","score":4,"rank":1}]}'
    assert reads.made(reads.rank("f", "r", "a", {}), place).around == (RankedKey("b", 4, 1),)
    items = b'{"items":[{"key":"a","value":{"x":1}},{"key":"b","value":null}]}'
    assert reads.made(reads.documents("f", ["a", "b"]), items) == {"a": {"x": 1}, "b": None}


def test_a_document_that_mongodb_refuses_is_not_taken_for_absent() -> None:
    body = b'{"items":[{"key":"a","problem":{"status":500,"type":"urn:neverstale:refused","detail":"no"}}]}'
    with pytest.raises(ServerFault, match="no"):
        reads.made(reads.documents("f", ["a"]), body)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b'{"items":[]}', b'{"items":7}', b'{"count":"x"}'])
def test_an_answer_of_another_form_is_no_answer(body: bytes) -> None:
    for read in (reads.documents("f", ["a"]), reads.page("f", "l", {}), reads.count("f", "c", {})):
        with pytest.raises(Unintelligible):
            reads.made(read, body)
