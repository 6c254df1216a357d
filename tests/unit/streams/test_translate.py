"""The table of operations."""

from typing import Any

import pytest

from neverstale.kafka.events import Change, Floor
from neverstale.mongodb.control import HEARTBEATS
from neverstale.streams.pipeline import RawEvent
from neverstale.streams.translate import LONGEST_KEY, EventMeaning, Watched, meaning_of

WATCHED = Watched("nyc", ("carriers", "flights"))
VERSION = 0x6B03E420_00000005


def raw(op: str, **other: Any) -> RawEvent:
    token = {"_data": "826B03E420000000052B022C0100296E5A1004FF"}
    return {"_id": token, "op": op, "wall": 1_795_417_119_573, "fields": None, **other}  # type: ignore[typeddict-item]


@pytest.mark.parametrize("op", ["insert", "update", "replace", "delete"])
def test_a_change_of_a_document_is_a_change(op: str) -> None:
    event = raw(op, coll="flights", key="a", fields=["n"])
    assert meaning_of(event) is EventMeaning.CHANGE
    assert WATCHED.change(event) == Change(op, "nyc", "flights", "s:a", VERSION, 1_795_417_119_573, ["n"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "collections"),
    [
        (raw("drop", coll="flights"), ["flights"]),
        (raw("rename", coll="flights", to="other"), ["flights"]),
        (raw("rename", coll="other", to="flights"), ["flights"]),
        (raw("rename", coll="flights", to="carriers"), ["carriers", "flights"]),
        (raw("dropDatabase"), ["carriers", "flights"]),
    ],
)
def test_a_change_of_a_collection_is_a_floor_of_each_that_is_concerned(
    event: RawEvent, collections: list[str]
) -> None:
    assert meaning_of(event) is EventMeaning.FLOOR
    assert WATCHED.floors(event) == [Floor("nyc", name, VERSION, event["op"]) for name in collections]


def test_a_document_whose_key_is_too_long_is_a_floor() -> None:
    event = raw("insert", coll="flights", key="x" * (LONGEST_KEY + 1))
    assert WATCHED.floors(event) == [Floor("nyc", "flights", VERSION, "a record is too large")]


@pytest.mark.parametrize("op", ["insert", "update", "drop", "rename"])
def test_an_event_of_the_heartbeats_is_nothing_else(op: str) -> None:
    assert meaning_of(raw(op, coll=HEARTBEATS)) is EventMeaning.HEARTBEAT


@pytest.mark.parametrize("op", ["invalidate", "create", "createIndexes", "modify", "shardCollection", "unheard of"])
def test_any_other_operation_is_ignored(op: str) -> None:
    assert meaning_of(raw(op, coll="flights")) is EventMeaning.IGNORED


def test_without_a_wall_time_a_change_has_its_cluster_time_in_whole_seconds() -> None:
    assert WATCHED.change(raw("delete", coll="flights", key=1, wall=None)).wall_ms == 0x6B03E420 * 1000
