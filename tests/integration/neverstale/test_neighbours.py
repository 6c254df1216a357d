"""Neighbours on Redis and Kafka: whatever somebody else writes under our names costs a miss, a void or an unknown.

One stack with all roles, and a table: every key and message of ours times damaged forms. After each, others are
served, nothing is false, every role lives, and the pipeline puts it right by itself.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import orjson
import pytest
from redis import Redis

import neverstale.api.derived.generations
import neverstale.consumers.derived.rebuild
import neverstale.consumers.registers
import neverstale.streams.walk
from neverstale.derived.redis_names import LIST_FLOOR, slot_of
from neverstale.redis.entries import HEADER_BYTES
from neverstale.role import telemetry
from tests.support.project import ROOT
from tests.support.waiting import eventually
from tests.worlds.neighbourhood import Neighbourhood, catalog_of, settings_of

Attack = Callable[[Neighbourhood], Awaitable[None]]

AHEAD: Final = b"f" * 16
CRLF: Final = b"\r\nX-Injected: 1\r\n"
BYTES: Final[dict[str, bytes]] = {
    "empty": b"",
    "huge": b"9" * 2_000_000,
    "not UTF-8": b"\xff\xfe\x00\x80",
    "not hex": b"z" * 16,
    "upper case": b"ABCDEFABCDEFABCD",
    "beyond the present": AHEAD,
    "negative": b"-1",
    "a line end": b"0" * 14 + b"\r\n",
    "another header": CRLF,
    "truncated JSON": b'{"by":"x","n":1,"keys":["',
    "null": b"null",
    "deep": b"[" * 5000 + b"]" * 5000,
    "a billion": b"1000000000",
    "infinite": b"inf",
    "not a number": b"nan",
    "a float": b"1e300",
}


@pytest.fixture
async def world(
    mongo_uri: str,
    kafka_servers: str,
    redis_url: str,
    topic: str,
    redis_prefix: str,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Neighbourhood]:
    """All roles run as the user of docs/operations.md, the neighbour as one that may do everything."""
    for module in (
        neverstale.consumers.registers,
        neverstale.consumers.derived.rebuild,
        neverstale.streams.walk,
        neverstale.api.derived.generations,
    ):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(neverstale.consumers.derived.rebuild, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(neverstale.consumers.derived.rebuild, "LONGEST_PAUSE_SECONDS", 0.01)
    settings = settings_of(
        mongo_uri, kafka_servers, with_documented_user(redis_url, redis_prefix), topic, redis_prefix
    )
    async with Neighbourhood.of(settings, catalog_of(database), redis_url) as world:
        yield world
    with Redis.from_url(redis_url) as redis:
        redis.execute_command("ACL", "DELUSER", redis_prefix)


def with_documented_user(redis_url: str, prefix: str) -> str:
    """The URL of a user as the documentation declares it, for another prefix."""
    text = (ROOT / "docs/operations.md").read_text()
    (line,) = re.findall(r"^ACL SETUSER neverstale (.*)$", text, re.MULTILINE)
    rules = line.replace("PASSWORD", "secret").replace("ns:", f"{prefix}:").split()
    with Redis.from_url(redis_url) as redis:
        redis.execute_command("ACL", "SETUSER", prefix, *rules)
    return redis_url.replace("://", f"://{prefix}:secret@")


async def after(world: Neighbourhood, attacks: dict[str, Attack]) -> list[str]:
    """What went wrong with each: at once, and until all is well again."""
    wrong = []
    for name, attack in attacks.items():
        await attack(world)
        wrong += [f"{name}: {fault}" for fault in await world.faults()]
        await world.write()
        wrong += [f"{name}, after a write: {fault}" for fault in await world.faults()]
        await world.well(name)
    return wrong


def string(key: Callable[[Neighbourhood], Awaitable[bytes]]) -> dict[str, Attack]:
    """Every form instead of a key's value, and other types."""

    def put(value: bytes) -> Attack:
        async def attack(world: Neighbourhood) -> None:
            await world.redis.set(await key(world), value)

        return attack

    return {form: put(value) for form, value in BYTES.items()} | other_types(key)


def field(key: Callable[[Neighbourhood], Awaitable[bytes]], *names: bytes | str) -> dict[str, Attack]:
    """Every form in fields of a hash."""

    def put(value: bytes) -> Attack:
        async def attack(world: Neighbourhood) -> None:
            hash_key = await key(world)
            if await world.redis.type(hash_key) != b"hash":
                await world.redis.delete(hash_key)  # of the form before, which nobody has met yet
            await world.redis.hset(hash_key, mapping=dict.fromkeys(names, value))

        return attack

    async def gone(world: Neighbourhood) -> None:
        if await world.redis.type(await key(world)) == b"hash":
            await world.redis.hdel(await key(world), *names)

    return {f"{names}: {form}": put(value) for form, value in BYTES.items()} | {f"{names}: missing": gone}


def other_types(key: Callable[[Neighbourhood], Awaitable[bytes]]) -> dict[str, Attack]:
    def put(command: str, *arguments: Any) -> Attack:
        async def attack(world: Neighbourhood) -> None:
            name = await key(world)
            # In one step, or a consumer puts its own between the two.
            async with world.redis.pipeline(transaction=True) as step:
                await step.delete(name).execute_command(command, name, *arguments).execute()

        return attack

    async def gone(world: Neighbourhood) -> None:
        await world.redis.delete(await key(world))

    return {
        "a list": put("LPUSH", "x"),
        "a hash": put("HSET", "f", "x"),
        "a set": put("SADD", "x"),
        "a sorted set": put("ZADD", 1, "x"),
        "a text": put("SET", "x"),
        "missing": gone,
    }


def named(find: Callable[[Neighbourhood], bytes]) -> Callable[[Neighbourhood], Awaitable[bytes]]:
    async def key(world: Neighbourhood) -> bytes:
        return find(world)

    return key


# --- entries

ENTRY = named(lambda world: world.names.entry("things", "s:a"))


def patched(offset: int, patch: bytes, *, cut: int | None = None) -> Attack:
    async def attack(world: Neighbourhood) -> None:
        raw = await world.redis.get(await ENTRY(world)) or b""
        await world.redis.set(await ENTRY(world), (raw[:offset] + patch + raw[offset + len(patch) :])[:cut])

    return attack


ENTRIES: Final[dict[str, Attack]] = {
    **string(ENTRY),
    "version beyond the present": patched(3, AHEAD),
    "version with another header": patched(3, CRLF[:16]),
    "ETag with another header": patched(80, CRLF[:16]),
    "ETag with a quote": patched(80, b'" \r\nX-Injected:1'),
    "an unknown state": patched(0, b"X"),
    "a state that is not its body's": patched(0, b"N"),
    "stale since the end of time": patched(0, b"S0D" + AHEAD),
    "a lease without an end": patched(0, b"L0-" + b"0" * 32 + b"a" * 16 + b"9" * 13),
    "a lease of no time": patched(0, b"L0-" + b"0" * 32 + b"a" * 16 + b"x" * 13),
    "half a header": patched(0, b"", cut=HEADER_BYTES // 2),
    "half a body": patched(0, b"", cut=HEADER_BYTES + 10),
    "of another key": patched(64, b"e" * 16),
}

# --- registers, watermarks, accounts

APPLIED = named(lambda world: world.names.applied)
FLOOR = named(lambda world: world.names.floor("things"))
WATERMARKS = named(lambda world: world.names.watermarks(world.settings.kafka.group))
REACHED = named(lambda world: world.names.reached(world.settings.kafka.group))
TOPICS = named(lambda world: world.names.topics(world.settings.kafka.group))


def watermark(version: bytes, wall_ms: bytes | None = None) -> Attack:
    async def attack(world: Neighbourhood) -> None:
        held = (await world.redis.hget(await WATERMARKS(world), "0") or b"").decode()
        identity = held.rsplit(":", 1)[-1].encode()
        wall = wall_ms if wall_ms is not None else b"%d" % (time.time() * 1000)
        await world.redis.hset(await WATERMARKS(world), mapping={"0": version + b":" + wall + b":" + identity})

    return attack


def endless(key: Callable[[Neighbourhood], Awaitable[bytes]]) -> Attack:
    async def attack(world: Neighbourhood) -> None:
        await world.redis.set(await key(world), b"?" + b"a" * 16 + b":" + b"0" * 16)

    return attack


REGISTERS: Final[dict[str, Attack]] = {
    **{f"applied: {form}": attack for form, attack in string(APPLIED).items()},
    **{f"floor: {form}": attack for form, attack in string(FLOOR).items()},
    "applied: claimed for ever": endless(APPLIED),
    "floor: claimed for ever": endless(FLOOR),
    **{f"watermarks: {form}": attack for form, attack in other_types(WATERMARKS).items()},
    **field(WATERMARKS, "partitions"),
    **field(WATERMARKS, "0", "1"),
    "watermark: beyond the present": watermark(AHEAD),
    "watermark: no version": watermark(b"z" * 16),
    "watermark: of the year 5000": watermark(b"0" * 16, b"95617584000000"),
    "watermark: not a wall time": watermark(b"0" * 16, b"-00000000005"),
    **{f"reached: {form}": attack for form, attack in other_types(REACHED).items()},
    **field(REACHED, "0", "1"),
    **field(REACHED, "0:batch", "1:batch"),
    **{f"topics: {form}": attack for form, attack in other_types(TOPICS).items()},
    **field(TOPICS, "0", "1"),
}

# --- derived data

GENERATIONS = named(lambda world: world.derived.generations)


def of_generation(find: Callable[[Any], bytes]) -> Callable[[Neighbourhood], Awaitable[bytes]]:
    async def key(world: Neighbourhood) -> bytes:
        return find(await world.generation())

    return key


def described(**changes: Any) -> Attack:
    async def attack(world: Neighbourhood) -> None:
        key = await GENERATIONS(world)
        raw = await world.redis.get(key) or b""
        held = [one | changes for one in orjson.loads(raw[16:])]
        await world.redis.set(key, raw[:16] + orjson.dumps(held))

    return attack


async def every_bucket(world: Neighbourhood) -> None:
    names = await world.generation()
    async for key in world.redis.scan_iter(match=names.base + ":b:*", count=1000):
        await world.redis.hset(key, mapping={"s:a": b"\xff" * 8 + b"nonsense", "s:b": b"?"})


def without(attacks: dict[str, Attack], *forms: str) -> dict[str, Attack]:
    return {name: attack for name, attack in attacks.items() if not name.endswith(forms)}


PARTITIONS = of_generation(lambda names: names.partitions)
TAGS = of_generation(lambda names: names.tags("by_kind"))
COUNTER = of_generation(lambda names: names.counter("kinds"))
SIZES = of_generation(lambda names: names.sizes("largest"))
RANKING = of_generation(lambda names: names.ranking("largest", ""))
READS = named(lambda world: (world.derived.base + ":reads").encode())
SINCE = named(lambda world: (world.derived.base + ":reads:since").encode())
GENERATED: Final[dict[str, Attack]] = {
    **{f"generations: {form}": attack for form, attack in string(GENERATIONS).items()},
    "generations: no epoch of theirs": described(id="00000000"),
    "generations: a billion buckets": described(buckets=10**9),
    "generations: a billion partitions": described(partitions=10**9, rebuilt=[10**9]),
    "generations: born at the end of time": described(birth="f" * 16),
    "generations: not by name": described(id=5),
    "generations: nothing declared": described(declared=None),
}
DERIVED: Final[dict[str, Attack]] = {
    **{f"partitions: {form}": attack for form, attack in other_types(PARTITIONS).items()},
    **field(PARTITIONS, "0", "1"),
    "contributions: nonsense": every_bucket,
    **{f"tags: {form}": attack for form, attack in other_types(TAGS).items()},
    **field(TAGS, LIST_FLOOR, slot_of("s:x")),
    **{f"counter: {form}": attack for form, attack in other_types(COUNTER).items()},
    # Counts that could be true are believed, and a field that is missing is zero.
    **without(field(COUNTER, b"n|s:x", b"l0|s:x"), "a billion", "missing"),
    **{f"sizes: {form}": attack for form, attack in other_types(SIZES).items()},
    **field(SIZES, ""),
    **{f"ranking: {form}": attack for form, attack in other_types(RANKING).items()},
    **{f"reads: {form}": attack for form, attack in other_types(READS).items()},
    **field(SINCE, "since", "half_life"),
}


TABLES: Final = {"entries": ENTRIES, "registers": REGISTERS, "generations": GENERATED, "derived data": DERIVED}


@pytest.mark.timeout(600)  # some hundred forms, one after the other
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
async def test_what_a_neighbour_writes_into_redis_costs_a_miss_a_void_or_an_unknown(
    world: Neighbourhood, table: dict[str, Attack]
) -> None:
    assert await after(world, table) == []
    status, _ = await world.readiness()
    assert status == 200


# --- messages

WRONG: Final[tuple[Any, ...]] = (
    None, True, -1, 1.5, 0, 10**9, 2**63 - 1, 2**64 - 1, "", "x", "\r\n", "f" * 16, "9" * 100_000, [], [5], [None],
    [[1, 2]], ["x"], ["a:b"], ["ns:things:d:"], ["ns:things:d:u:z"], {}, {"a": [{}]},
)  # fmt: skip
MARK: Final = [0, "0" * 15 + "1", 1]
ANNOUNCEMENT: Final[dict[str, Any]] = {
    "by": "x", "n": 1, "keys": [], "floors": [], "groups": [], "redis": "x", "partitions": 2, "marks": [MARK],
}  # fmt: skip
ANNOUNCED: Final = [
    *BYTES.values(),
    *(orjson.dumps(ANNOUNCEMENT | {name: wrong}) for name in ANNOUNCEMENT for wrong in WRONG),
    *(orjson.dumps({key: value for key, value in ANNOUNCEMENT.items() if key != name}) for name in ANNOUNCEMENT),
    *(
        orjson.dumps(ANNOUNCEMENT | {"marks": [[*MARK[:place], wrong, *MARK[place + 1 :]]]})
        for place in range(3)
        for wrong in WRONG
    ),
]


async def announce(world: Neighbourhood, message: bytes) -> None:
    await world.redis.publish(world.names.announcements, message)


async def test_what_a_neighbour_announces_voids_what_is_in_memory_and_ends_no_task(world: Neighbourhood) -> None:
    tasks = world.background()
    for message in ANNOUNCED:
        await announce(world, message)
    identity = world.state.freshness.identity
    for version, wall_ms in (("f" * 16, 1), ("0" * 16, 95_617_584_000_000)):
        marks = {"redis": identity, "marks": [[0, version, wall_ms], [1, version, wall_ms]]}
        await announce(world, orjson.dumps(ANNOUNCEMENT | marks))
    for number in range(3_000):
        await announce(world, orjson.dumps({"by": f"x{number}", "n": 1}))
    assert await world.faults() == []
    await world.write()
    await world.well()
    await world.well_in_memory()
    assert tasks <= world.background()
    status, parts = await world.readiness()
    assert (status, "announcement" in parts.get("redis_data", "")) == (200, True)
    assert (telemetry.REGISTRY.get_sample_value("neverstale_damaged_total", {"what": "announcement"}) or 0) > 100


RECORD_MARK: Final[dict[str, Any]] = {
    "f": 1, "kind": "mark", "ver": "0" * 15 + "1", "wall": 1, "partitions": 2, "term": 1, "topic": None,
}  # fmt: skip
RECORDS: Final[dict[str, dict[str, Any]]] = {
    "mark": RECORD_MARK,
    "rebuilt": {"f": 1, "kind": "rebuilt", "resource": "things", "generation": "0" * 8, "partitions": 2},
    "floor": {"f": 1, "kind": "floor", "db": "x", "coll": "things", "ver": "0" * 16, "reason": "x", "lost": True},
    "touch": {"f": 1, "kind": "touch", "db": "x", "coll": "things", "key": "s:a", "ver": "0" * 16, "entries": True},
    "change": {
        "f": 1, "kind": "change", "op": "update", "db": "x", "coll": "things", "key": "s:a", "ver": "0" * 16,
        "wall": 1, "fields": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", RECORDS)
async def test_what_a_neighbour_publishes_is_a_dead_letter_or_says_nothing(world: Neighbourhood, kind: str) -> None:
    sound = RECORDS[kind] | ({"db": world.catalog.database} if "db" in RECORDS[kind] else {})
    values = [orjson.dumps(sound | {name: wrong}) for name in sound for wrong in WRONG]
    values += [orjson.dumps({key: value for key, value in sound.items() if key != name}) for name in sound]
    for value in [*BYTES.values(), *values]:
        for partition in range(2):
            await world.kafka.send(world.settings.kafka.topic, value[:900_000], partition=partition)
    await world.kafka.flush()
    await world.write()
    await world.well()
    assert await world.faults() == []
    world.check_roles()


async def test_a_mark_of_a_term_that_nobody_holds_silences_no_true_mark(world: Neighbourhood) -> None:
    now_ms = int(time.time() * 1000)

    async def say(term: int) -> None:
        said = RECORD_MARK | {"term": term, "ver": f"{now_ms // 1000 - 1:08x}00000001", "wall": now_ms - 1000}
        for partition in range(2):
            await world.kafka.send(world.settings.kafka.topic, orjson.dumps(said), partition=partition)
        await world.kafka.flush()

    for term in (2**63 - 1, 2**53, now_ms + 10**6, now_ms):
        await say(term)
        await world.write()
        await world.well(f"term {term}")

    async def is_condemned() -> bool:
        """Only by a fresh answer of MongoDB, which is not asked for each mark."""
        await say(now_ms)
        await asyncio.sleep(0.5)
        kept = {"reason": "term", "outcome": "kept"}
        return (telemetry.REGISTRY.get_sample_value("neverstale_records_poison_total", kept) or 0) > 0

    await eventually(is_condemned, "a mark of no term is set aside", 30)


async def test_an_account_of_what_was_never_published_is_void(world: Neighbourhood) -> None:
    await world.redis.hset(await REACHED(world), mapping={"0": b"9" * 15})

    async def forgotten() -> bool:
        return int(await world.redis.hget(await REACHED(world), "0") or b"0") < 10**9

    await eventually(forgotten, "the account is true again", 30)
    await world.write()
    await world.well()
