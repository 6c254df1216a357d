"""What a body may ask for, and what is said about one that asks wrongly."""

import uuid
from typing import Any

import pytest
from bson.objectid import ObjectId

from neverstale.api.linked.view import Views
from neverstale.api.linked.wanted import wanted_of, wanted_of_several
from neverstale.api.web.problems import Problem
from neverstale.catalog import Catalog

CATALOG = Catalog.model_validate(
    {
        "database": "d",
        "resources": {
            "things": {"key_type": "string", "fields": {"a": "string"}, "refs": {"a": {"to": "things"}}},
            "numbers": {"key_type": "int"},
            "objects": {"key_type": "objectid"},
            "tokens": {"key_type": "uuid"},
        },
    }
)
VIEWS = {name: Views(one, CATALOG.resources) for name, one in CATALOG.resources.items()}
HEX, UUID = "5f0d1e2a3b4c5d6e7f809192", "12345678-1234-5678-1234-567812345678"


@pytest.mark.parametrize(
    ("resource", "keys", "expected"),
    [
        ("things", ["a", "b,c", "a/b", "a", "1"], ["a", "b,c", "a/b", "a", "1"]),
        ("numbers", [1, -5, 2.0, {"$numberLong": "42"}, {"$numberInt": "7"}], [1, -5, 2, 42, 7]),
        ("objects", [HEX, {"$oid": HEX}], [ObjectId(HEX), ObjectId(HEX)]),
        ("tokens", [UUID, {"$uuid": UUID}], [uuid.UUID(UUID), uuid.UUID(UUID)]),
        ("things", [f"k{number}" for number in range(1000)], [f"k{number}" for number in range(1000)]),
    ],
)
def test_keys_are_typed_by_json(resource: str, keys: list[Any], expected: list[Any]) -> None:
    assert wanted_of({"keys": keys}, VIEWS[resource]).keys == expected


@pytest.mark.parametrize(
    ("resource", "body", "parameter", "sentence"),
    [
        ("things", ["a"], "body", "expected an object with any of: keys, expand, fields"),
        ("things", {}, "keys", "is missing"),
        ("things", {"keys": []}, "keys", "expected an array"),
        ("things", {"keys": "a,b"}, "keys", "expected an array"),
        ("things", {"keys": ["a"], "key": 1}, "key", "there is no such member; known: keys, expand, fields"),
        ("things", {"keys": ["a", 1]}, "keys", "number 1 (from 0): expected a string"),
        ("things", {"keys": [""]}, "keys", "the key is empty"),
        ("things", {"keys": ["\ud800"]}, "keys", "not valid UTF-8"),
        ("things", {"keys": ["x" * 4097]}, "keys", "longer than 4096 bytes"),
        ("things", {"keys": [{"$oid": HEX}]}, "keys", "expected a string"),
        ("things", {"keys": [None]}, "keys", "expected a string"),
        ("numbers", {"keys": ["1"]}, "keys", "not in quotes"),
        ("numbers", {"keys": [True]}, "keys", "whole number"),
        ("numbers", {"keys": [1.5]}, "keys", "whole number"),
        ("numbers", {"keys": [2**63]}, "keys", "at most 64 bits"),
        ("numbers", {"keys": [{"$numberLong": 42}]}, "keys", 'expected a number or {"$numberInt": "…"} or'),
        ("numbers", {"keys": [{"$numberLong": "042"}]}, "keys", "expected a whole number"),
        ("objects", {"keys": ["12"]}, "keys", "24 hex digits"),
        ("objects", {"keys": [{"$oid": HEX, "x": 1}]}, "keys", 'expected a string or {"$oid": "…"}'),
        ("tokens", {"keys": [{"$uuid": "x"}]}, "keys", "expected a UUID"),
        ("things", {"keys": ["a"] * 1001}, "keys", "more than 1000 keys"),
        ("things", {"keys": ["a"], "expand": "a"}, "expand", "expected an array"),
        ("things", {"keys": ["a"], "expand": [1]}, "expand", "names, which are strings"),
        ("things", {"keys": ["a"], "expand": ["b"]}, "expand", "things has no reference 'b'"),
        ("things", {"keys": ["a"], "fields": ["b"]}, "fields", "things has no field 'b'"),
    ],
)
def test_a_wrong_body_is_refused_and_named(resource: str, body: Any, parameter: str, sentence: str) -> None:
    with pytest.raises(Problem) as refused:
        wanted_of(body, VIEWS[resource])
    assert refused.value.members["parameter"] == parameter
    assert sentence in refused.value.members["detail"]


def test_several_resources_are_asked_for_by_name() -> None:
    body = {"things": {"keys": ["a"], "expand": ["a"]}, "numbers": {"keys": [1]}}
    wanted = wanted_of_several(body, VIEWS)
    assert {name: one.keys for name, one in wanted.items()} == {"things": ["a"], "numbers": [1]}
    assert not wanted["things"].view.is_whole


@pytest.mark.parametrize(
    ("body", "parameter", "sentence"),
    [
        ({}, "body", "names no resource"),
        ([], "body", "expected an object with any of: things, numbers, objects, tokens"),
        ({"other": {"keys": ["a"]}}, "other", "there is no such member"),
        ({"things": {"keys": [1]}}, "things.keys", "number 0 (from 0)"),
        ({"things": ["a"]}, "things", "expected an object"),
        ({"things": {"keys": ["a"], "fields": ["b"]}}, "things.fields", "things has no field 'b'"),
        ({"things": {"keys": ["a"] * 600}, "numbers": {"keys": [1] * 600}}, "keys", "more than 1000 keys"),
    ],
)
def test_what_is_wrong_with_one_of_several_is_named(body: Any, parameter: str, sentence: str) -> None:
    with pytest.raises(Problem) as refused:
        wanted_of_several(body, VIEWS)
    assert refused.value.members["parameter"] == parameter
    assert sentence in refused.value.members["detail"]
