"""Query parameters of lists, counters and rankings: values of the right type, and nothing that is not understood."""

import datetime
import uuid
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from neverstale.api.web.paths import listed
from neverstale.api.web.problems import Problem
from neverstale.api.web.query import Asked, asked, whole_number
from neverstale.catalog import Resource

RESOURCE = Resource.model_validate(
    {
        "name": "flights",
        "key_type": "int",
        "fields": {"day": "int", "origin": "string", "at": "date", "open": "bool", "limit": "int", "tags": "array"},
    }
)
UNDECLARED = Resource.model_validate({"name": "flights", "key_type": "string"})
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
    assert (said.text("limit"), said.text("cursor"), said.values) == ("5", "x", {"day": 1})


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
        whole_number(Asked({}, {"limit": quote(text).encode()}, {}), "limit", 3, 1, 10)


def test_a_count_has_a_default() -> None:
    assert whole_number(Asked({}, {}, {}), "limit", 3, 1, 10) == 3


# --- names

ODD = (
    "ship to",
    "a,b",
    "a+b",
    "100%",
    "%41",
    "größe",
    "路.名",
    "a&b=c",
    "a:int",
    "a#b?c/d",
    "customer_profile.billing_address.country_code",
    "x" * 300,
    "cursor",
    "\x7f\t",
)


def by_javascript(text: str) -> str:
    return quote(text, safe="!'()*")


ENCODED = [quote_plus, lambda text: quote(text, safe=""), by_javascript, lambda text: quote(text, safe=",:/?#")]


@pytest.mark.parametrize("encoded", ENCODED, ids=["form", "quote", "javascript", "hardly"])
@pytest.mark.parametrize("name", ODD)
def test_every_declared_field_can_be_asked_for(name: str, encoded: Any) -> None:
    """Also beside one that begins alike."""
    by = (name, name + "x")
    for query, value in [
        (f"{encoded(name)}=a+b", "a b"),
        (f"{encoded(name)}:int=3", 3),
        (f"{encoded(name)}:null", None),
    ]:
        assert asked(query.encode(), RESOURCE, by, (), whole=False).values == {name: value}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400))
def test_a_name_is_decoded_once_and_compared_whole(name: str) -> None:
    for query in (quote_plus(name), quote(name, safe="")):
        assert asked(f"{query}=v".encode(), UNDECLARED, (name,), (), whole=True).values == {name: "v"}
        with pytest.raises(Problem):
            asked(f"{query}=v".encode(), UNDECLARED, (name + "x", quote(name + " ", safe="")), (), whole=False)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("=x", ""),
        ("=", ""),
        ("%6Fther=1", "other"),
        ("ot+her=1", "ot her"),
        ("origin%=1", "origin%"),
        ("origin%4=1", "origin%4"),
        ("%ff=1", "%ff"),
        ("%C3%28=1", "%C3%28"),
        ("origin%00=1", "origin\0"),
        ("origin%20=1", "origin "),
        ("Origin=1", "Origin"),
        ("origin=100%", "origin"),
        ("origin=%4", "origin"),
        ("origin=%zz", "origin"),
        ("origin=%C3", "origin"),
        ("origin=a&origin=b", "origin"),
        ("origin=a&%6Frigin=a", "origin"),
        ("origin=a&origin:string=a", "origin"),
        ("cursor=a&cursor=a", "cursor"),
        ("x" * 300 + "=1", "x" * 300),
        ("x" * 3000 + "=1", "x" * 1000 + "…"),
        ("origin:" + "x" * 3000 + "=1", "origin:" + "x" * 993 + "…"),
    ],
)
def test_a_name_that_is_none_is_named(query: str, parameter: str) -> None:
    with pytest.raises(Problem) as problem:
        read(query)
    assert (problem.value.status, problem.value.members["parameter"]) == (400, parameter)


def test_a_nul_is_a_letter_of_a_value() -> None:
    assert read("origin=a%00b").values == {"origin": "a\0b"}


@given(st.binary(max_size=60))
def test_no_query_leads_to_anything_but_values_or_a_problem(query: bytes) -> None:
    try:
        asked(query, RESOURCE, BY, ("limit", "cursor"), whole=False)
    except Problem as problem:
        assert problem.status == 400


# --- lists of names


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("kind", ["kind"]),
        ("a%2Cb", ["a,b"]),
        ("a%2Cb,kind", ["a,b", "kind"]),
        ("kind,a%2Cb", ["kind", "a,b"]),
        ("a%2Cb%2Ckind", ["a,b", "kind"]),
        ("kind%2Ca%2Cb", ["kind", "a,b"]),
        ("a,kind", ["a", "kind"]),
        ("a%2Ckind", ["a", "kind"]),
        ("ship+to,kind", ["ship to", "kind"]),
        ("ship%20to", ["ship to"]),
    ],
)
def test_commas_separate_names_and_may_be_inside_them(value: str, names: list[str]) -> None:
    assert listed(value.encode(), ("a", "a,b", "kind", "ship to"), "group") == names


@pytest.mark.parametrize(
    "value", ["", "b", "a,b", "a,", ",a", ",", "a%2C", "a,,kind", "%zz", "%ff", "kin", "kindx", "a%252Cb"]
)
def test_names_that_are_not_declared_are_refused(value: str) -> None:
    with pytest.raises(Problem, match="group"):
        listed(value.encode(), ("a", "a,b", "kind"), "group")


@given(st.lists(st.sampled_from(ODD), min_size=1, unique=True))
def test_names_are_found_again_in_a_list(names: list[str]) -> None:
    assert listed(",".join(quote(name, safe="") for name in names).encode(), ODD, "group") == names
    assert listed(",".join(map(quote_plus, names)).encode(), ODD, "group") == names
