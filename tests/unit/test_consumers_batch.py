"""Folding records into batches."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.batch import Batch, Folding
from neverstale import events
from neverstale.catalog import Catalog
from neverstale.errors import DeadLetter
from neverstale.events import Change, Event, Floor, Mark, Touch, record_key
from neverstale.keys import Names, type_matches
from neverstale.versions import to_hex

NAMES = Names("ns")
CATALOG = Catalog.model_validate(
    {
        "database": "shop",
        "resources": {
            "items": {"key_type": "string", "on_change": "invalidate", "fields": {"price": "int", "size": "object"}},
            "stock": {"key_type": "int", "on_change": "refresh"},
            "orders": {"key_type": "string", "on_change": "auto"},
            "receipts": {"key_type": "int", "collection": "orders", "on_change": "refresh"},
        },
    }
)


class Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None


class Partition(NamedTuple):
    topic: str
    partition: int


def records(*given: Event | bytes | None, start: int = 0) -> list[Record]:
    return [
        Record(offset, key_of(event), event if isinstance(event, bytes | None) else events.encode(event))
        for offset, event in enumerate(given, start)
    ]


def key_of(event: Event | bytes | None) -> bytes | None:
    return record_key(event.database, event.collection, event.key) if isinstance(event, Change) else None


def fold(*given: Event | bytes | None) -> Batch:
    return Folding(CATALOG, NAMES).fold({Partition("t", 0): records(*given)})


def change(
    key: str, version: int, collection: str = "items", fields: Any = None, database: str = "shop", wall_ms: int = 1000
) -> Change:
    return Change("update", database, collection, key, version, wall_ms, fields)


def asked(batch: Batch) -> dict[bytes, tuple[str, str]]:
    """Entry -> version and refresh letter."""
    pairs = zip(batch.versions_and_refresh[::2], batch.versions_and_refresh[1::2], strict=True)
    return dict(zip(batch.keys, pairs, strict=True))


def test_the_newest_change_of_a_document_wins_in_whatever_order_they_come() -> None:
    batch = fold(change("s:a", 5), change("s:a", 9), change("s:a", 7))
    assert asked(batch) == {b"ns:items:d:s:a": (to_hex(9), "n")}
    assert batch.highest == 9
    assert batch.changes == 3


def test_every_resource_says_what_becomes_of_its_entries() -> None:
    batch = fold(change("s:a", 1), change("i:1", 2, "stock"), change("s:b", 3, "orders"))
    assert asked(batch) == {
        b"ns:items:d:s:a": (to_hex(1), "n"),
        b"ns:stock:d:i:1": (to_hex(2), "r"),
        b"ns:orders:d:s:b": (to_hex(3), "t"),
    }


def test_resources_of_one_collection_each_get_the_keys_of_their_type() -> None:
    batch = fold(change("s:b", 3, "orders"), change("i:7", 4, "orders"))
    assert asked(batch) == {b"ns:orders:d:s:b": (to_hex(3), "t"), b"ns:receipts:d:i:7": (to_hex(4), "r")}
    assert [(span.resource.name, span.start, span.end) for span in batch.spans] == [
        ("orders", 0, 1),
        ("receipts", 1, 2),
    ]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (change("s:a", 1, "elsewhere"), "collection"),
        (change("s:a", 1, database="other"), "collection"),
        (change("i:1", 1), "key_type"),
        (change("x:08", 1), "key_type"),
        (change("s:a", 1, fields=["weight"]), "fields"),
        (Floor("shop", "elsewhere", 9, "drop"), "collection"),
        (Floor("other", "items", 9, "drop"), "collection"),
    ],
)
def test_what_no_entry_depends_on_is_skipped_and_raises_nothing(event: Event, reason: str) -> None:
    batch = fold(event)
    assert (batch.keys, batch.highest, batch.floors, batch.skipped) == ([], 0, {}, {reason: 1})
    assert batch.offsets == {0: 1}


@pytest.mark.parametrize("fields", [None, ["price"], ["size.height"], ["weight", "size.0"]])
def test_a_change_of_a_served_field_or_of_unknown_ones_counts(fields: Any) -> None:
    assert fold(change("s:a", 1, fields=fields)).keys == [b"ns:items:d:s:a"]


def test_a_touch_of_a_resync_makes_older_entries_stale() -> None:
    batch = fold(change("s:a", 3), Touch("shop", "items", "s:a", 5, entries=True))
    assert asked(batch) == {b"ns:items:d:s:a": (to_hex(5), "n")}
    assert (batch.highest, batch.touches) == (5, 1)


def test_other_touches_leave_entries_alone() -> None:
    batch = fold(Touch("shop", "items", "s:a", 5))
    assert (batch.keys, batch.highest, batch.skipped) == ([], 0, {"collection": 1})


def test_a_floor_says_whether_changes_were_lost() -> None:
    batch = fold(Floor("shop", "items", 4, "drop"), Floor("shop", "items", 9, "invalidate", lost=False))
    assert (batch.floors, batch.lost) == ({"items": 9}, {"items": 4})


def test_floors_of_a_collection_rise_to_the_highest() -> None:
    batch = fold(Floor("shop", "items", 4, "drop"), Floor("shop", "items", 3, "drop"), Floor("shop", "stock", 2, "x"))
    assert batch.floors == {"items": 4, "stock": 2}
    assert batch.highest == 4


def test_the_last_mark_of_each_partition_counts() -> None:
    folding = Folding(CATALOG, NAMES)
    batch = folding.fold(
        {
            Partition("t", 0): records(Mark(1, 10, 2, 1), change("s:a", 2), Mark(3, 30, 2, 1)),
            Partition("t", 1): records(Mark(2, 20, 2, 1), start=7),
        }
    )
    assert batch.marks == {0: Mark(3, 30, 2, 1), 1: Mark(2, 20, 2, 1)}
    assert batch.offsets == {0: 3, 1: 8}


def test_a_mark_of_an_older_term_is_ignored_also_in_a_later_batch() -> None:
    folding = Folding(CATALOG, NAMES)
    first = folding.fold({Partition("t", 0): records(Mark(1, 10, 2, term=2), Mark(5, 50, 2, term=1))})
    second = folding.fold({Partition("t", 0): records(Mark(6, 60, 2, term=1))})
    elsewhere = folding.fold({Partition("t", 1): records(Mark(6, 60, 2, term=1))})
    assert (first.marks, second.marks) == ({0: Mark(1, 10, 2, 2)}, {})
    assert first.skipped == second.skipped == {"term": 1}
    assert elsewhere.marks == {1: Mark(6, 60, 2, 1)}


def test_the_oldest_wall_time_of_the_changes_is_kept() -> None:
    batch = fold(change("s:a", 1, wall_ms=700), change("s:b", 2, wall_ms=500), change("i:1", 3, "stock", wall_ms=600))
    assert batch.oldest_wall_ms == 500


def test_an_unreadable_record_voids_the_collection_that_its_key_names() -> None:
    bad = Record(4, record_key("shop", "stock", "i:1"), b'{"f": 99}')
    batch = Folding(CATALOG, NAMES).fold({Partition("t", 3): [bad]})
    assert batch.forget == {"stock"}
    assert [(poison.partition, poison.record.offset) for poison in batch.poison] == [(3, 4)]
    assert batch.offsets == {3: 5}


@pytest.mark.parametrize("key", [None, b"", b"shop", b"\xff\xfe", b"shop.items", b"other.items|s:a"])
def test_an_unreadable_record_whose_key_tells_nothing_voids_everything(key: bytes | None) -> None:
    batch = Folding(CATALOG, NAMES).fold({Partition("t", 0): [Record(0, key, b"{")]})
    assert batch.forget == {"items", "stock", "orders"}


def test_an_unreadable_record_of_a_collection_that_is_not_ours_voids_nothing() -> None:
    batch = Folding(CATALOG, NAMES).fold({Partition("t", 0): [Record(0, b"shop.carts|s:a", b"{")]})
    assert (batch.forget, len(batch.poison)) == (set(), 1)


def test_records_lost_unread_void_everything() -> None:
    batch = Folding(CATALOG, NAMES).lost({2: 40})
    assert (batch.forget, batch.offsets) == ({"items", "stock", "orders"}, {2: 40})


def test_every_record_is_counted_once() -> None:
    batch = fold(
        change("s:a", 1), change("s:a", 2), change("i:1", 1), Floor("shop", "items", 1, "x"), Mark(1, 1, 1, 1), None
    )
    assert batch.records == 6


# --- the fast way and the written one read the same

PLAIN = {
    "f": 1,
    "kind": "change",
    "op": "update",
    "db": "shop",
    "coll": "items",
    "key": "s:a",
    "ver": to_hex(7),
    "wall": 5,
    "fields": None,
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.lists(st.sampled_from(["price", "size.x", "weight", 5, None]), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(0, 9), max_size=1),
    st.sampled_from(
        [
            *("shop", "items", "stock", "orders", "i:1", "s:é\n", "insert", "delete", "mark", "floor", "truncate"),
            *(to_hex(12), to_hex(2**64 - 1), "0123456789ABCDEF", "000000000000 12", "0" * 15, "0" * 17, "+" * 16),
            *(["0"] * 16, "\u0665" * 16, "0000000000000_12"),
        ]
    ),
)


@st.composite
def values(draw: st.DrawFn) -> bytes:
    fields: dict[str, Any] = dict(PLAIN)
    for name in draw(st.lists(st.sampled_from(sorted(PLAIN)), max_size=3, unique=True)):
        if draw(st.booleans()):
            fields[name] = draw(ODD)
        else:
            del fields[name]
    return orjson.dumps(fields)


def as_written(given: Iterable[bytes]) -> dict[bytes, int]:
    """The entries that records concern, by the reference that `events.decode` is."""
    found: dict[bytes, int] = {}
    for value in given:
        try:
            event = events.decode(value)
        except DeadLetter:
            continue
        if not isinstance(event, Change) or event.database != CATALOG.database:
            continue
        for resource in CATALOG.of_collection(event.collection):
            paths, served = event.fields, {"price", "size"} if event.collection == "items" else None
            seen = paths is None or served is None or any(path.split(".")[0] in served for path in paths)
            if type_matches(event.key, resource.key_type) and seen:
                entry = NAMES.entry(resource.name, event.key)
                found[entry] = max(event.version, found.get(entry, -1))
    return found


@given(st.lists(st.one_of(values(), st.binary(max_size=8), st.just(orjson.dumps(PLAIN))), max_size=6))
def test_a_batch_holds_what_events_decode_reads(given: list[bytes]) -> None:
    batch = fold(*given)
    assert {key: int(version, 16) for key, (version, _) in asked(batch).items()} == as_written(given)
    assert batch.records == len(given)


@given(st.lists(st.one_of(values(), st.binary(max_size=8)), max_size=6))
def test_what_events_decode_refuses_is_poison(given: list[bytes]) -> None:
    refused = 0
    for value in given:
        try:
            events.decode(value)
        except DeadLetter:
            refused += 1
    assert len(fold(*given).poison) == refused
