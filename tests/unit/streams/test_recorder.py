"""The fast way from an event to a record gives what the plain way gives."""

import uuid
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from neverstale.kafka.events import decode, encode, record_key
from neverstale.streams import recorder as module
from neverstale.streams.pipeline import RawEvent
from neverstale.streams.recorder import Recorder
from neverstale.streams.translate import LONGEST_FIELDS, LONGEST_KEY, Watched

WATCHED = Watched("nyc", ("carriers", 'fl"ights'))
PARTITIONS = 7

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ids = st.one_of(
    texts,
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(),
    st.booleans(),
    st.uuids(version=4).map(lambda value: Binary(value.bytes, 4)),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.dictionaries(texts.filter(lambda name: "\0" not in name), st.integers(0, 9), max_size=2),
    st.integers(-(2**40), 2**50).map(DatetimeMS),
    st.just(Decimal128("12.50")),
)


def event(key: Any, **other: Any) -> RawEvent:
    raw: dict[str, Any] = {
        "_id": {"_data": "826B03E420000000052B022C0100296E5A1004FF"},
        "op": "update",
        "coll": "carriers",
        "key": key,
        "wall": Int64(1_795_417_119_573),
        "fields": ["a", "b.c"],
    }
    return raw | other  # type: ignore[return-value]


@pytest.mark.parametrize("longer", [0, 1])
def test_a_record_is_as_large_as_the_topic_takes_and_no_larger(longer: int) -> None:
    raw = event("k", fields=["a" * 200])
    put: list[tuple[int, bytes, bytes]] = []
    assert Recorder(WATCHED, PARTITIONS).record([raw], 0, 1, lambda *record: put.append(record)) == 1
    ((_, key, value),) = put
    taken: list[object] = []
    recorder = Recorder(WATCHED, PARTITIONS, len(key) + len(value) - longer)
    assert recorder.record([event("j"), raw], 0, 2, lambda *record: taken.append(record)) == 2 - longer
    assert len(taken) == 2 - longer


events = st.builds(
    event,
    ids,
    op=st.sampled_from(("insert", "update", "replace", "delete")),
    coll=st.sampled_from(WATCHED.collections),
    wall=st.none() | st.integers(0, 2**44).map(Int64),
    fields=st.none() | st.lists(texts, max_size=3),
)


def record(batch: list[RawEvent]) -> tuple[int, list[tuple[int, bytes, bytes]]]:
    put: list[tuple[int, bytes, bytes]] = []
    stopped = Recorder(WATCHED, PARTITIONS).record(batch, 0, len(batch), lambda *row: put.append(row))
    return stopped, put


@given(st.lists(events, max_size=4))
def test_value_key_and_partition_equal_the_plain_way(batch: list[RawEvent]) -> None:
    stopped, put = record(batch)
    assert stopped == len(batch)
    for (partition, key, value), raw in zip(put, batch, strict=True):
        change = WATCHED.change(raw)
        assert value == encode(change)
        assert decode(value) == change
        assert key == record_key(change.database, change.collection, change.key)
        every = list(range(PARTITIONS))
        assert partition == DefaultPartitioner()(key, every, every)


def test_recording_stops_at_the_first_event_that_is_no_ordinary_change() -> None:
    drop: RawEvent = {"_id": {"_data": "82" + "0" * 16}, "op": "drop", "coll": "carriers", "wall": 1, "fields": None}  # type: ignore[typeddict-item]
    for unusual in (drop, event("1", coll="neverstale.heartbeat"), event("x" * (LONGEST_KEY + 1))):
        stopped, put = record([event("1"), unusual, event("2")])
        assert (stopped, len(put)) == (1, 1)


def test_a_recorder_goes_on_where_it_is_told() -> None:
    put: list[tuple[int, bytes, bytes]] = []
    batch = [event(str(number)) for number in range(5)]
    assert Recorder(WATCHED, 1).record(batch, 2, 4, lambda *row: put.append(row)) == 4
    assert [key for _, key, _ in put] == [b"nyc.carriers|s:2", b"nyc.carriers|s:3"]


def test_too_many_changed_paths_mean_all() -> None:
    raw = event("1", fields=["x" * 100] * (LONGEST_FIELDS // 100))
    _, put = record([raw])
    change = WATCHED.change(raw)
    assert change.fields is None
    assert put[0][2] == encode(change)


def test_equal_text_in_two_collections_is_two_documents() -> None:
    _, put = record([event("1"), event("1", coll='fl"ights'), event("1")])
    assert [key for _, key, _ in put] == [b"nyc.carriers|s:1", b'nyc.fl"ights|s:1', b"nyc.carriers|s:1"]


def test_uuids_share_one_form_however_they_were_decoded() -> None:
    value = uuid.uuid4()
    _, put = record([event(value), event(Binary(value.bytes, 4))])
    assert put[0] == put[1]


def test_remembered_keys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_KEYS", 10)
    recorder = Recorder(WATCHED, PARTITIONS)
    batch = [event(str(number), coll=coll) for number in range(45) for coll in WATCHED.collections]
    recorder.record(batch, 0, len(batch), lambda *_: None)
    assert sum(len(places) for _, places in recorder._sections.values()) <= 10
