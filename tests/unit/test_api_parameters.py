"""Query parameters of lists, counters and rankings: values of the right type, and nothing that is not understood."""

import datetime
import uuid
from typing import Any

import pytest
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from api.parameters import Asked, asked, whole_number
from api.problems import Problem
from neverstale.catalog import Resource

RESOURCE = Resource.model_validate(
    {
        "name": "flights",
        "key_type": "int",
        "fields": {"day": "int", "origin": "string", "at": "date", "open": "bool", "limit": "int", "tags": "array"},
    }
)
BY = ("day", "origin", "at", "open", "limit", "tags", "deep.field", "_id")


def read(query: str, *, whole: bool = False) -> Asked:
    return asked(query.encode(), RESOURCE, BY, ("limit", "cursor"), whole=whole)


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("day=3", "day", 3),
        ("day=-3", "day", -3),
        ("origin=3", "origin", "3"),
        ("origin=a+b%2Bc%C3%BC", "origin", "a b+cü"),
        ("origin=", "origin", ""),
        ("origin:null", "origin", None),
        ("origin:null=", "origin", None),
        ("origin:int=3", "origin", 3),
        ("origin:bool=true", "origin", True),
        ("open=false", "open", False),
        ("at=2013-02-08T14:05:00.123Z", "at", datetime.datetime(2013, 2, 8, 14, 5, 0, 123000, datetime.UTC)),
        ("at=2013-02-08T16:05:00%2B02:00", "at", datetime.datetime(2013, 2, 8, 14, 5, tzinfo=datetime.UTC)),
        ("limit:int=5", "limit", 5),
        ("tags=red", "tags", "red"),
        ("deep.field=x", "deep.field", "x"),
        ("deep.field:double=1.5", "deep.field", 1.5),
        ("deep.field:decimal=1.50", "deep.field", Decimal128("1.50")),
        ("deep.field:objectid=5f0d1e2a3b4c5d6e7f809192", "deep.field", ObjectId("5f0d1e2a3b4c5d6e7f809192")),
        ("deep.field:uuid=" + "12345678" * 4, "deep.field", uuid.UUID("12345678" * 4)),
        ("deep.field:binary=aGVsbG8=", "deep.field", b"hello"),
        ("_id=7", "_id", 7),
    ],
)
def test_a_value_has_the_declared_or_the_named_type(query: str, field: str, value: Any) -> None:
    found = read(query).values
    assert found == {field: value}
    assert type(found[field]) is type(value)


def test_a_parameter_of_ours_is_none_of_the_fields() -> None:
    said = read("limit=5&cursor=x&day=1")
    assert (said.others, said.values) == ({"limit": "5", "cursor": "x"}, {"day": 1})


def test_the_group_is_in_the_order_of_the_declaration() -> None:
    said = asked(b"origin=JFK&day=3", RESOURCE, ("day", "origin"), (), whole=True)
    assert said.group(("day", "origin")) == "i:3|s:JFK"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("day=x", "day"),
        ("day=1.0", "day"),
        ("day=9223372036854775808", "day"),
        ("day=1&day=1", "day"),
        ("day=1&day:null", "day"),
        ("limit=1&limit=1", "limit"),
        ("colour=red", "colour"),
        ("day:colour=1", "day:colour"),
        ("day:null=1", "day"),
        ("at=yesterday", "at"),
        ("at=2013-02-08T14:05:00.123456Z", "at"),
        ("open=1", "open"),
        ("origin=%FF", "origin"),
        ("origin=" + "x" * 600, "origin"),
        ("deep.field:double=1e999", "deep.field"),
        ("deep.field:decimal=1E7000", "deep.field"),
        ("deep.field:objectid=5f", "deep.field"),
        ("deep.field:uuid=5f", "deep.field"),
        ("deep.field:binary=%25", "deep.field"),
    ],
)
def test_what_makes_no_sense_is_named(query: str, parameter: str) -> None:
    with pytest.raises(Problem) as problem:
        read(query)
    assert problem.value.status == 400
    assert problem.value.members["parameter"] == parameter


def test_a_missing_field_is_named() -> None:
    with pytest.raises(Problem) as problem:
        read("day=1", whole=True)
    assert problem.value.members["parameter"] == "origin"


@pytest.mark.parametrize("text", ["0", "11", "x", "-1", "1.0", "", "٣"])
def test_a_count_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(Problem):
        whole_number(Asked({}, {"limit": text}), "limit", 3, 1, 10)


def test_a_count_has_a_default() -> None:
    assert whole_number(Asked({}, {}), "limit", 3, 1, 10) == 3
