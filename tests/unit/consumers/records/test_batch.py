"""Folding records into batches."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.catalog import Catalog
from neverstale.consumers.most_read import Favourites
from neverstale.consumers.records.batch import Batch, Folding
from neverstale.derived.plan import Said
from neverstale.errors import DeadLetter
from neverstale.kafka import events
from neverstale.kafka.events import Change, Event, Floor, Mark, Rebuilt, Touch, record_key
from neverstale.keys import Names, type_matches
from neverstale.role.damage import MOST_PARTITIONS
from neverstale.versions import LATEST, to_hex
from tests.support.damaged import LAST, patched

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
    timestamp: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


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
        (change("i:1", 1), "key_type"),
        (change("x:08", 1), "key_type"),
        (change("s:a", 1, fields=["weight"]), "fields"),
        (Floor("shop", "elsewhere", 9, "drop"), "collection"),
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


PRESENT = 1 << 40


def settled(*given: Record, present: int | None = PRESENT, latest: int = LATEST) -> Batch:
    folding = Folding(CATALOG, NAMES, lambda: latest)
    batch = folding.fold({Partition("t", 3): given})
    folding.settle(batch, present)
    return batch


def test_an_unreadable_record_makes_the_document_that_its_key_names_stale_as_of_the_present() -> None:
    batch = settled(Record(4, record_key("shop", "stock", "i:1"), b'{"f": 99}'))
    assert asked(batch) == {b"ns:stock:d:i:1": (to_hex(PRESENT), "r")}
    assert (batch.highest, batch.floors, batch.forget) == (PRESENT, {}, set())
    assert [(poison.partition, poison.record.offset, poison.reason) for poison in batch.poison] == [(3, 4, "format")]
    assert batch.offsets == {3: 5}


def test_an_entry_that_a_sound_record_names_too_is_named_once() -> None:
    sound, bad = records(change("i:1", 5, "stock"), change("i:1", 6, "stock"))
    batch = settled(sound, bad._replace(value=b"{"))
    assert asked(batch) == {b"ns:stock:d:i:1": (to_hex(PRESENT), "r")}
    assert [(span.start, span.end) for span in batch.spans] == [(0, 1)]


def test_what_is_derived_from_its_document_looks_at_it_again_as_if_anything_had_changed() -> None:
    counters = {"counters": {"by_price": {"by": ["price"]}}}
    catalog = {
        "database": "shop",
        "resources": {"items": {"key_type": "string", "fields": {"price": "int"}} | counters},
    }
    folding = Folding(Catalog.model_validate(catalog), NAMES)
    batch = folding.fold({Partition("t", 3): [Record(4, record_key("shop", "items", "s:a"), b"{")]})
    folding.settle(batch, PRESENT)
    assert batch.told == {("items", 3): {"s:a": [Said("update", PRESENT, None, None)]}}


def test_while_the_present_is_not_known_its_collection_is_void() -> None:
    batch = settled(Record(4, record_key("shop", "stock", "i:1"), b"{"), present=None)
    assert (batch.keys, batch.highest, batch.forget, len(batch.poison)) == ([], 0, {"stock"}, 1)


@pytest.mark.parametrize("key", [None, b"", b"shop", b"\xff\xfe", b"shop.items", b"other.items|s:a"])
def test_an_unreadable_record_whose_key_tells_nothing_raises_every_floor(key: bytes | None) -> None:
    batch = settled(Record(0, key, b"{"))
    assert batch.floors == batch.lost == dict.fromkeys(("items", "stock", "orders"), PRESENT)
    assert settled(Record(0, key, b"{"), present=None).forget == {"items", "stock", "orders"}


@pytest.mark.parametrize(
    "key", [b"shop.stock|", b"shop.stock|i:007", b"shop.stock|\xff", b"shop.stock|x:zz", b"shop.stock|1"]
)
def test_a_key_that_spells_no_document_raises_the_floor_of_its_collection(key: bytes) -> None:
    assert settled(Record(0, key, b"{")).floors == {"stock": PRESENT}


def test_an_unreadable_record_of_a_collection_that_is_not_ours_voids_nothing() -> None:
    batch = settled(Record(0, b"shop.carts|s:a", b"{"))
    assert (batch.floors, batch.forget, batch.highest, len(batch.poison)) == ({}, set(), 0, 1)


@pytest.mark.parametrize("event", [change("s:a", 1, database="other"), Floor("other", "items", 9, "drop")])
def test_a_record_of_another_database_is_set_aside_and_voids_nothing(event: Event) -> None:
    batch = settled(*records(event))
    assert (batch.keys, batch.floors, batch.highest) == ([], {}, 0)
    assert [poison.reason for poison in batch.poison] == ["namespace"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "undecodable"),
        (b"\x00", "undecodable"),
        (b'{"f":1,"kind":"change","op":"upd', "undecodable"),
        (b'{"f":2,"kind":"change"}', "format"),
        (b'{"f":1,"kind":"riddle"}', "kind"),
        (b'{"f":1,"kind":"change","op":"riddle"}', "operation"),
        (b'{"f":1,"kind":"mark"}', "malformed"),
        (b"[]", "malformed"),
    ],
)
def test_what_cannot_be_read_has_a_reason(value: bytes | None, reason: str) -> None:
    assert [poison.reason for poison in fold(value).poison] == [reason]


BEYOND = 2 << 40


@pytest.mark.parametrize(
    ("event", "keys", "floors"),
    [
        (change("s:a", BEYOND), [b"ns:items:d:s:a"], {}),
        (Touch("shop", "items", "s:a", BEYOND, entries=True), [b"ns:items:d:s:a"], {}),
        (Floor("shop", "items", BEYOND, "drop"), [], {"items": PRESENT}),
    ],
)
def test_a_version_that_mongodb_has_not_reached_raises_nothing_beyond_the_present(
    event: Event, keys: list[bytes], floors: dict[str, int]
) -> None:
    batch = settled(*records(event), latest=BEYOND - 1)
    assert (batch.keys, batch.floors, batch.highest) == (keys, floors, PRESENT)
    assert [poison.reason for poison in batch.poison] == ["version"]


def test_a_mark_that_mongodb_has_not_reached_says_nothing() -> None:
    batch = settled(*records(Mark(BEYOND, 10, 2, 1)), latest=BEYOND - 1)
    assert (batch.marks, batch.highest, [poison.reason for poison in batch.poison]) == ({}, 0, ["version"])


def test_a_version_that_mongodb_has_reached_after_all_is_no_poison() -> None:
    batch = settled(*records(change("s:a", BEYOND)), latest=BEYOND - 1, present=BEYOND)
    assert asked(batch) == {b"ns:items:d:s:a": (to_hex(BEYOND), "n")}
    assert (batch.poison, batch.skipped, batch.records) == ([], {"ahead": 1}, 1)


def test_the_latest_version_that_can_be_real_is_taken_as_it_is() -> None:
    batch = settled(*records(change("s:a", BEYOND)), latest=BEYOND)
    assert (batch.highest, batch.poison, batch.changes) == (BEYOND, [], 1)


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
    refused = []
    for value in given:
        try:
            events.decode(value)
        except DeadLetter as error:
            refused.append(error.reason)
    assert [poison.reason for poison in fold(*given).poison if poison.reason != "namespace"] == refused


def test_a_favourite_is_refreshed_although_nobody_has_read_it_again() -> None:
    favourites = Favourites()
    favourites.keys = frozenset((NAMES.entry("orders", "s:a"), NAMES.entry("items", "s:a")))
    changes = [change("s:a", 5), change("s:a", 6, "orders"), change("s:b", 7, "orders")]
    batch = Folding(CATALOG, NAMES, favourites=favourites).fold({Partition("t", 0): records(*changes)})
    letters = {key: letter for key, (_, letter) in asked(batch).items()}
    # Only where a second chance is given.
    assert letters == {b"ns:items:d:s:a": "n", b"ns:orders:d:s:a": "r", b"ns:orders:d:s:b": "t"}


SOUND: list[Event] = [
    Mark(5, 10, 2, 1, "t"),
    Rebuilt("things", "0" * 8, 2),
    Floor("shop", "items", 5, "x"),
    Touch("shop", "items", "s:a", 5),
    Change("insert", "shop", "items", "s:a", 5, 10, None),
]


@given(st.sampled_from(SOUND).flatmap(lambda event: patched(events.encode(event))))
def test_any_record_is_folded_and_what_no_watcher_writes_is_poison(value: bytes) -> None:
    batch = Folding(CATALOG, NAMES, lambda: LAST).fold({Partition("t", 0): records(value)})
    assert batch.records == 1
    assert batch.highest <= LAST
    assert all(mark.version <= LAST and mark.partitions <= MOST_PARTITIONS for mark in batch.marks.values())
