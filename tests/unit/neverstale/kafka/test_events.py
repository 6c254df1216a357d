"""Records: what is encoded is decoded, anything else is a dead letter and nothing worse."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.errors import DeadLetter
from neverstale.kafka import events
from neverstale.kafka.events import Change, Floor, Mark, Touch
from neverstale.role.damage import MOST_PARTITIONS
from neverstale.versions import to_hex

MAY_BE_MISSING = {"groups", "lost", "entries", "topic"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VERSIONS = st.integers(0, 2**64 - 1)
WALLS = st.integers(0, 253_402_300_799_999)
CHANGES = st.builds(
    Change,
    operation=st.sampled_from(sorted(events.OPERATIONS)),
    database=TEXT,
    collection=TEXT,
    key=TEXT,
    version=VERSIONS,
    wall_ms=WALLS,
    fields=st.none() | st.lists(TEXT),
)
MARKS = st.builds(
    Mark,
    version=VERSIONS,
    wall_ms=WALLS,
    partitions=st.integers(1, 10_000),
    term=st.integers(0, 2**53),
    topic=st.none() | st.text("0123456789abcdef", min_size=1, max_size=64),
)
FLOORS = st.builds(Floor, database=TEXT, collection=TEXT, version=VERSIONS, reason=TEXT, lost=st.booleans())
TOUCHES = st.builds(Touch, database=TEXT, collection=TEXT, key=TEXT, version=VERSIONS, entries=st.booleans())
EVENTS = st.one_of(CHANGES, MARKS, FLOORS, TOUCHES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(EVENTS)
def test_an_event_survives_its_record(event: events.Event) -> None:
    assert events.decode(events.encode(event)) == event


@given(EVENTS)
def test_a_record_says_its_format_and_kind(event: events.Event) -> None:
    fields = orjson.loads(events.encode(event))
    assert (fields["f"], fields["kind"]) == (events.FORMAT, type(event).__name__.lower())


def test_a_change_has_the_documented_fields_and_no_others() -> None:
    change = Change("update", "nyc", "flights", "s:UA1", 0x65A1B2C3_00000001, 1_700_000_000_000, ["status"])
    assert orjson.loads(events.encode(change)) == {
        "f": 1,
        "kind": "change",
        "op": "update",
        "db": "nyc",
        "coll": "flights",
        "key": "s:UA1",
        "ver": "65a1b2c300000001",
        "wall": 1_700_000_000_000,
        "fields": ["status"],
    }


def test_the_records_of_a_document_have_one_key() -> None:
    assert events.record_key("nyc", "flights", "s:ü") == "nyc.flights|s:ü".encode()


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff", b"null", b"1", b'"change"', b"[]", b"{}", b"[" * 5000])
def test_what_is_no_record_is_a_dead_letter(value: bytes | None) -> None:
    with pytest.raises(DeadLetter):
        events.decode(value)


@given(EVENTS, st.data())
def test_a_record_that_lacks_a_field_is_a_dead_letter(event: events.Event, data: st.DataObject) -> None:
    fields = orjson.loads(events.encode(event))
    del fields[data.draw(st.sampled_from(sorted(fields.keys() - MAY_BE_MISSING)))]
    with pytest.raises(DeadLetter):
        events.decode(orjson.dumps(fields))


@given(EVENTS, st.integers(0))
def test_a_cut_record_is_a_dead_letter(event: events.Event, length: int) -> None:
    value = events.encode(event)
    with pytest.raises(DeadLetter):
        events.decode(value[: length % len(value)])


@given(EVENTS, st.integers(2, 100))
def test_a_later_format_is_a_dead_letter_that_says_so(event: events.Event, form: int) -> None:
    fields = orjson.loads(events.encode(event)) | {"f": form}
    with pytest.raises(DeadLetter, match="format"):
        events.decode(orjson.dumps(fields))


@given(EVENTS)
def test_an_unknown_kind_is_a_dead_letter_that_says_so(event: events.Event) -> None:
    fields = orjson.loads(events.encode(event)) | {"kind": "riddle"}
    with pytest.raises(DeadLetter, match="riddle"):
        events.decode(orjson.dumps(fields))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("op", "rename"),
        ("op", None),
        ("op", ["insert"]),
        ("db", None),
        ("coll", 5),
        ("key", None),
        ("key", ["s:a"]),
        ("ver", 5),
        ("ver", None),
        ("ver", "65A1B2C300000001"),
        ("ver", "1"),
        ("wall", "soon"),
        ("wall", None),
        ("wall", []),
        ("fields", 5),
        ("fields", "status"),
        ("fields", {"status": 1}),
        ("fields", ["status", 5]),
    ],
)
def test_a_change_with_a_wrong_field_is_a_dead_letter(field: str, wrong: Any) -> None:
    fields = orjson.loads(events.encode(Change("insert", "nyc", "flights", "s:UA1", 1, 1, None)))
    with pytest.raises(DeadLetter):
        events.decode(orjson.dumps(fields | {field: wrong}))


@pytest.mark.parametrize("field", ["ver", "wall", "partitions", "term"])
@pytest.mark.parametrize("wrong", [None, "x", [], {}])
def test_a_mark_with_a_wrong_field_is_a_dead_letter(field: str, wrong: Any) -> None:
    fields = orjson.loads(events.encode(Mark(1, 1, 4, 1)))
    with pytest.raises(DeadLetter):
        events.decode(orjson.dumps(fields | {field: wrong}))


@pytest.mark.parametrize("field", ["db", "coll", "ver", "reason"])
@pytest.mark.parametrize("wrong", [None, 5, [], {}])
def test_a_floor_with_a_wrong_field_is_a_dead_letter(field: str, wrong: Any) -> None:
    fields = orjson.loads(events.encode(Floor("nyc", "flights", 1, "drop")))
    with pytest.raises(DeadLetter):
        events.decode(orjson.dumps(fields | {field: wrong}))


@given(st.binary() | JSON.map(orjson.dumps))
def test_any_bytes_are_an_event_or_a_dead_letter(value: bytes) -> None:
    try:
        events.decode(value)
    except DeadLetter as error:
        assert error.reason


@given(CHANGES, st.sampled_from(["f", "kind", "op", "db", "coll", "key", "ver", "wall", "fields"]), JSON)
def test_any_value_in_any_field_is_an_event_or_a_dead_letter(change: Change, field: str, wrong: Any) -> None:
    fields = orjson.loads(events.encode(change)) | {field: wrong}
    try:
        event = events.decode(orjson.dumps(fields))
    except DeadLetter:
        return
    assert isinstance(event, Change)
    assert len(to_hex(event.version)) == 16
    assert isinstance(event.key, str)
    assert event.fields is None or all(isinstance(path, str) for path in event.fields)


@pytest.mark.parametrize("partitions", [0, -1, MOST_PARTITIONS + 1, 2_000_000, 1.5, True, "2", None])
def test_a_mark_of_partitions_that_cannot_be_is_malformed(partitions: Any) -> None:
    fields = orjson.loads(events.encode(Mark(5, 10, 2, 1))) | {"partitions": partitions}
    with pytest.raises(DeadLetter):
        events.decode(orjson.dumps(fields))
