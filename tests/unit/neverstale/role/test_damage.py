"""What is read of Redis, its channel and Kafka: any bytes are what they should be, or unknown."""

import json
from collections.abc import Sequence
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from api.freshness.watermark import Freshness
from api.hits.channel import Channel
from api.reads.l1 import L1
from consumers.records.batch import Folding
from neverstale.derived import generations
from neverstale.derived.generations import Generation, Generations, UnknownFormat
from neverstale.errors import DeadLetter
from neverstale.kafka import events
from neverstale.kafka.events import Change, Event, Floor, Mark, Rebuilt, Touch
from neverstale.keys import Names
from neverstale.redis import announcements, watermarks
from neverstale.redis.announcements import Announcer, Unreadable
from neverstale.redis.foreign_keys import removed
from neverstale.role.damage import MOST_PARTITIONS, PART, Damage
from neverstale.role.service import Health
from neverstale.versions import to_hex
from tests.unit.consumers.records.test_batch import CATALOG, NAMES, Partition, records

LAST = 0x7000_0000_0000_0000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def patched(sound: bytes) -> st.SearchStrategy[bytes]:
    """A message with one of its fields replaced by any JSON, or gone, or one that is cut."""
    fields: dict[str, Any] = orjson.loads(sound)
    names = st.sampled_from(sorted(fields))
    replaced = st.tuples(names, JSON).map(lambda pair: json.dumps(fields | {pair[0]: pair[1]}).encode())
    gone = names.map(lambda name: json.dumps({key: value for key, value in fields.items() if key != name}).encode())
    return replaced | gone | st.integers(0, len(sound)).map(lambda end: sound[:end]) | st.binary()


CHANGES = Announcer("x").changes([b"ns:things:d:s:a"], ["things"])
MARKS = Announcer("x").marks("redis-1", 2, {0: (5, 10), 1: (6, 11)})


# --- versions and registers


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"F" * 16, b"0" * 15, b"0" * 17, b"0" * 14 + b"\r\n", b"-" + b"0" * 15, b"\xff" * 16]
)
def test_what_is_no_version_is_unknown(raw: bytes) -> None:
    assert Damage().version("register", raw) is None
    assert Damage().register(raw) is None


def test_what_lies_ahead_is_unknown_and_what_is_told_of_shows_while_the_role_is_ready() -> None:
    health = Health({"redis": None})
    damage = Damage(lambda: LAST, health)
    assert damage.version("register", to_hex(LAST).encode()) == LAST
    assert (health.ready, PART in health.noted) == (True, False)
    assert damage.version("register", to_hex(LAST + 1).encode()) is None
    answer = health.answer()
    assert (answer.status_code, "register" in json.loads(bytes(answer.body))["parts"][PART]) == (200, True)


def test_a_wall_time_is_ahead_if_its_second_is() -> None:
    damage = Damage(lambda: 1_000 << 32)
    assert [damage.is_ahead(wall_ms) for wall_ms in (0, 1_000_999, 1_001_000, 2**60)] == [False, False, True, True]


@pytest.mark.parametrize("raw", [None, b"?" + b"0" * 16 + b":" + b"0" * 16])
def test_a_register_that_is_missing_or_claimed_is_no_damage(raw: bytes | None) -> None:
    health = Health()
    assert Damage(health=health).register(raw) is None
    assert not health.noted


@given(st.lists(st.none() | st.binary(max_size=60), max_size=4), st.none() | st.binary(max_size=12))
def test_any_bytes_are_watermarks_or_missing(values: list[bytes | None], count: bytes | None) -> None:
    damage = Damage(lambda: LAST)
    assert all(mark.version <= LAST for mark in watermarks.watermarks_of(values, damage).values())
    assert (watermarks.count_of(count, damage) or 0) <= MOST_PARTITIONS


@pytest.mark.parametrize("count", [b"0", b"-1", b"1000000000", b"1e3", b"", b" 4", b"10001", b"9" * 400])
def test_a_number_of_partitions_that_cannot_be_is_unknown(count: bytes) -> None:
    assert watermarks.count_of(count, Damage()) is None


# --- announcements


@given(patched(CHANGES) | patched(MARKS))
def test_any_message_is_an_announcement_or_unreadable(message: bytes) -> None:
    try:
        said = announcements.decode(message)
    except Unreadable:
        return
    assert all(isinstance(text, str) for text in (said.publisher, *said.keys, *said.floors, *said.groups))
    if said.marks is not None:
        assert max(said.marks.by_partition, default=0) < said.marks.partitions <= MOST_PARTITIONS


@given(st.lists(patched(CHANGES) | patched(MARKS), max_size=5))
def test_no_message_ends_the_hearing(messages: list[bytes]) -> None:
    redis = Redis.from_url("redis://127.0.0.1:1")
    freshness = cast("Freshness", FreshnessOfOne())
    channel = Channel(redis, Names("ns"), L1(1 << 20, 60), freshness, 1.0, Damage(lambda: LAST), {})
    channel._opened("redis-1")
    for message in messages:
        channel.hear(message)
    channel.hear(Announcer("true").marks("redis-1", 2, {0: (5, 10), 1: (6, 11)}))
    assert channel._l1.watermark or channel._hearing is not None


class FreshnessOfOne:
    identity = "redis-1"

    def __init__(self) -> None:
        self.marks = self

    def on_void(self, call: object) -> None:
        pass

    def note(self, version: int, wall_ms: int) -> None:
        pass


# --- records

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


@pytest.mark.parametrize("partitions", [0, -1, MOST_PARTITIONS + 1, 2_000_000, 1.5, True, "2", None])
def test_a_mark_of_partitions_that_cannot_be_is_malformed(partitions: Any) -> None:
    fields = orjson.loads(events.encode(Mark(5, 10, 2, 1))) | {"partitions": partitions}
    with pytest.raises(DeadLetter):
        events.decode(orjson.dumps(fields))


# --- generations

HELD = Generations((Generation("0" * 8, "complete", "redis-1", 16, "{}", 5, 2, frozenset((0, 1))),))


@given(st.sampled_from(sorted(orjson.loads(generations.encode(HELD)[16:])[0])), JSON)
def test_generations_that_say_anything_else_are_nobodys(field: str, value: Any) -> None:
    held = orjson.loads(generations.encode(HELD)[16:])
    text = json.dumps([held[0] | {field: value}]).encode()
    for raw in (generations.encode(HELD)[:16] + text, text):
        try:
            assert generations.decode(raw) == HELD
        except UnknownFormat:
            continue


# --- foreign keys


async def test_keys_that_hold_another_type_are_deleted_and_no_others() -> None:
    names = Names("ns")
    types = {names.applied: b"list", names.floor("a"): b"string", b"ns:{t}:0a:c:n": b"set", b"ns:a:d:s:x": b"none"}
    deleted: list[bytes] = []

    async def exchange(commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        for command in commands:
            if command[0] == "DEL":
                deleted.extend(command[1:])
        return [types.get(command[1], b"hash") for command in commands]

    commands = [("EVALSHA", "sha", 3, *list(types)[:3], b"ns:applied"), ("MGET", b"ns:a:d:s:x"), (b"INFO", b"server")]
    assert await removed(commands, names, Damage(), exchange) == 2
    assert deleted == [names.applied, b"ns:{t}:0a:c:n"]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (NAMES.applied, "string"),
        (NAMES.floor("watermarks"), "string"),
        (NAMES.entry("reached", "s:a"), "string"),
        (NAMES.watermarks("g"), "hash"),
        (NAMES.reached("g"), "hash"),
        (NAMES.limit(b"x"), "string"),
        (b"ns:{t}:gens", "string"),
        (b"ns:{t}:reads", "zset"),
        (b"ns:{t}:reads:since", "hash"),
        (b"ns:{t}:0a:p", "hash"),
        (b"ns:{t}:0a:b:1f", "hash"),
        (b"ns:{t}:0a:z:n:s:x", "zset"),
        (b"ns:{t}:0a:l:n:s:x:0", "string"),
        (b"shop:applied", None),
        (b"ns:announcements", None),
    ],
)
def test_what_we_keep_under_a_key_is_told_from_its_name(key: bytes, kind: str | None) -> None:
    assert NAMES.type_of(key) == kind
