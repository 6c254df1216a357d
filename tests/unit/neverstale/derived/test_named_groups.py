"""What the watcher names, and how it is written."""

from typing import Any, cast

import orjson
import pytest

from neverstale.bson.values import decode as decode_bson
from neverstale.derived.groups import BEYOND, JOIN, fact_at
from neverstale.derived.named_groups import named
from neverstale.kafka.events import Rebuilt, Touch, decode, encode
from neverstale.streams.pipeline import RawEvent
from neverstale.streams.recorder import Recorder
from neverstale.streams.translate import Watched
from tests.properties.raw_bson import ODD, Value, document

WATCHED = Watched("nyc", ("carriers", "flights"), {"flights": ("origin", "address.city"), "carriers": ("tags",)})

EVENTS: list[dict[str, Any]] = [
    {"op": "insert", "coll": "flights", "fields": None, "v0": "JFK", "v1": "New York"},
    {"op": "insert", "coll": "flights", "fields": None},
    {"op": "replace", "coll": "flights", "fields": None, "v0": 1.0, "v1": ["a", "b"]},
    {"op": "update", "coll": "flights", "fields": ["origin", "n"], "v0": "LGA"},
    {"op": "update", "coll": "flights", "fields": ["address"], "v1": "Paris"},
    {"op": "update", "coll": "flights", "fields": ["address.zip"]},
    {"op": "update", "coll": "flights", "fields": ["origin"]},
    {"op": "update", "coll": "carriers", "fields": ["tags.0"]},
    {"op": "update", "coll": "carriers", "fields": ["tags"], "v2": ["x", "y"]},
    {"op": "delete", "coll": "flights", "fields": None},
]
NAMED: list[dict[str, str] | None] = [
    {"origin": "s:JFK", "address.city": "s:New York"},
    {"origin": "n", "address.city": "n"},
    {"origin": "i:1"},
    {"origin": "s:LGA"},
    {"address.city": "s:Paris"},
    None,
    {"origin": "n"},
    None,
    {"tags": f"s:x{JOIN}s:y"},
    None,
]


def raw(event: dict[str, Any]) -> RawEvent:
    return cast("RawEvent", {"_id": {"_data": "82" + "0" * 7 + "7" + "0" * 8}, "key": "k", "wall": 5, **event})


@pytest.mark.parametrize(("event", "expected"), list(zip(EVENTS, NAMED, strict=True)), ids=str)
def test_a_change_names_what_its_event_tells(event: dict[str, Any], expected: dict[str, str] | None) -> None:
    assert WATCHED.change(raw(event)).named == expected


def test_the_fast_way_writes_the_same() -> None:
    written: list[bytes] = []
    events = [raw(event) for event in EVENTS]
    recorder = Recorder(WATCHED, 4)
    assert recorder.record(events, 0, len(events), lambda _, __, value: written.append(value)) == len(events)
    assert written == [encode(WATCHED.change(event)) for event in events]
    assert [decode(value) for value in written] == [WATCHED.change(event) for event in events]


def test_a_value_beyond_a_bound_is_not_named() -> None:
    assert named(("a",), None, {"a": list(range(40))}) == {}
    assert named(("a",), ["a"], {"a": "x" * 600}) == {}


@pytest.mark.parametrize("event", [Touch("nyc", "flights", "s:k", 7), Rebuilt("flights", "g", 4)])
def test_records_of_a_walk_are_read_as_they_were_written(event: Touch | Rebuilt) -> None:
    assert decode(encode(event)) == event


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_a_fact_of_any_value_can_be_told_in_an_event(value: Value) -> None:
    document_of = decode_bson(document(value.named("a")))
    facts = named(["a"], None, document_of)
    assert orjson.loads(orjson.dumps(facts)) == facts
    assert facts.get("a", BEYOND) == fact_at(document_of, "a")
