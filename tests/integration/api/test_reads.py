"""The reader on real MongoDB and Redis: batches, single flight, leases of others, and races with changes."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from neverstale.api.reads.answer import Answer, Wish
from neverstale.api.reads.fills import BODY_BYTES
from neverstale.catalog import Resource
from neverstale.keys import KeyValue
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.mongodb.replies import RawReply
from neverstale.redis.cache import Cache, Fill, Granted
from neverstale.redis.entries import EntryState
from neverstale.role import telemetry
from neverstale.versions import Version
from tests.support.waiting import eventually
from tests.worlds.api import World, catalog_of, loads, settings_of


async def get(world: World, key: KeyValue, wish: Wish | None = None) -> Answer:
    return await world.reader.get(world.things, key, *([wish] if wish else []))


async def until(count: int, notes: Sequence[Any], what: str) -> None:
    async def are() -> bool:
        return len(notes) >= count

    await eventually(are, what)


async def until_answered(world: World, key: KeyValue, body: bytes | None) -> None:
    """A get may still join a read that is being filled; a value that stays wrong is found here all the same."""

    async def right() -> bool:
        return (await get(world, key)).body == body

    await eventually(right, f"{key!r} is answered with {body!r}", seconds=5)


class Gap:
    """Holds every read of MongoDB back after it has read, until `go` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = asyncio.Event()
        self.read: list[Version] = []
        load = Loader.load

        async def held(loader: Loader, resource: Resource, keys: Sequence[KeyValue], at_least: Version) -> Snapshot:
            snapshot = await load(loader, resource, keys, at_least)
            self.read.append(snapshot.version)
            await self.go.wait()
            return snapshot

        monkeypatch.setattr(Loader, "load", held)


class Commands:
    """Notes the calls of the cache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.calls: list[Sequence[Any]] = []
        original = getattr(Cache, name)

        async def noted(cache: Cache, *arguments: Any, **more: Any) -> Any:
            self.calls.append(arguments)
            return await original(cache, *arguments, **more)

        monkeypatch.setattr(Cache, name, noted)


# --- batches


async def test_the_gets_of_a_turn_leave_as_one_lease_and_one_read_of_mongodb(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.write("things", *({"_id": str(number)} for number in range(50)))
    leases, before = Commands(monkeypatch, "lease"), loads("things")
    answers = await asyncio.gather(*(get(world, str(number)) for number in range(60)))
    assert [answer.body is None for answer in answers] == [number >= 50 for number in range(60)]
    assert {answer.how for answer in answers} == {"miss"}
    assert len({answer.version for answer in answers}) == 1
    assert len(leases.calls) == 1
    assert loads("things") == before + 1


async def test_single_gets_and_several_multi_gets_of_a_turn_share_one_find(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds: list[Any] = []
    original = Loader._command

    async def noted(loader: Loader, command: dict[str, Any], *more: Any) -> RawReply:
        finds.append(command["filter"]["_id"])
        return await original(loader, command, *more)

    monkeypatch.setattr(Loader, "_command", noted)
    await world.write("things", *({"_id": str(number)} for number in range(30)))
    one, some, others, _ = await asyncio.gather(
        get(world, "0"),
        world.reader.get_many(world.things, [str(number) for number in range(1, 15)]),
        world.reader.get_many(world.things, [str(number) for number in range(10, 30)]),
        get(world, "29"),
    )
    assert [sorted(wanted["$in"]) for wanted in finds] == [sorted(str(number) for number in range(30))]
    assert len({answer.version for answer in (one, *some, *others)}) == 1
    assert None not in {answer.body for answer in (one, *some, *others)}


async def test_200_gets_of_one_missing_key_read_mongodb_once(world: World) -> None:
    await world.write("things", {"_id": "a"})
    before = loads("things")
    answers = await asyncio.gather(*(get(world, "a") for _ in range(200)))
    assert len({(answer.body, answer.version) for answer in answers}) == 1
    assert loads("things") == before + 1


async def test_gets_that_come_while_a_read_is_under_way_join_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.write("things", {"_id": "a"})
    gap = Gap(monkeypatch)
    first = asyncio.create_task(get(world, "a"))
    await until(1, gap.read, "the first read")
    others = [asyncio.create_task(get(world, "a")) for _ in range(100)]
    await asyncio.sleep(0.05)  # long enough for wrong ones to start; nothing is waited for
    gap.go.set()
    answers = await asyncio.gather(first, *others)
    assert len(gap.read) == 1
    assert [answer.collapsed for answer in answers] == [False] + [True] * 100


async def test_different_resources_leave_apart(world: World) -> None:
    await world.write("things", {"_id": "1"})
    await world.write("numbers", {"_id": 1, "name": "one"})
    thing, number = await asyncio.gather(get(world, "1"), world.reader.get(world.documents["numbers"], 1))
    assert (thing.body, number.body) == (b'{"_id":"1"}', b'{"_id":1,"name":"one"}')


async def test_thousands_of_gets_of_a_turn_are_all_answered(world: World) -> None:
    await world.write("things", {"_id": "7"})
    answers = await asyncio.gather(*(get(world, str(number)) for number in range(5000)))
    assert [number for number, answer in enumerate(answers) if answer.body is not None] == [7]


# --- leases


async def test_a_reader_waits_for_the_fill_of_another_process(world: World) -> None:
    key = world.entry_key("things", "a")
    leases = await world.cache.lease("things", [key], 0, 60_000, world.things.shows)
    assert isinstance(leases.answers[0], Granted)
    before = loads("things")
    waiting = [asyncio.create_task(get(world, "a")) for _ in range(10)]
    waits = telemetry.REGISTRY.get_sample_value("neverstale_leases_total", {"answer": "wait"})

    async def has_waited() -> bool:
        return telemetry.REGISTRY.get_sample_value("neverstale_leases_total", {"answer": "wait"}) != waits

    await eventually(has_waited, "the reader was told to wait")
    version = await world.loader.now()
    fill = Fill(key, leases.token, version, b'{"by":"other"}', 60_000, world.things.shows)
    assert await world.cache.fill([fill]) == ["filled"]
    answers = await asyncio.gather(*waiting)
    assert {(answer.body, answer.detail, answer.version) for answer in answers} == {
        (b'{"by":"other"}', "l2", version)
    }
    assert loads("things") == before


async def test_a_reader_that_has_waited_long_enough_reads_mongodb_and_fills_nothing(
    mongo_uri: str, redis_url: str, database: str, redis_prefix: str
) -> None:
    settings = settings_of(mongo_uri, redis_url, redis_prefix, wait_ms=30)
    async with World.of(settings, catalog_of(database)) as world:
        await world.write("things", {"_id": "a"})
        await world.cache.lease("things", [world.entry_key("things", "a")], 0, 60_000, world.things.shows)
        assert (await get(world, "a")).body == b'{"_id":"a"}'
        entry = await world.entry("things", "a")
        assert entry is not None
        assert entry.state is EntryState.LEASE


async def test_a_lease_that_ran_out_is_taken_over(world: World) -> None:
    await world.write("things", {"_id": "a"})
    await world.cache.lease("things", [world.entry_key("things", "a")], 0, 1, world.things.shows)
    assert (await get(world, "a")).body == b'{"_id":"a"}'
    await world.until_filled("things", "a")


# --- what is cached


async def test_an_absence_is_cached_for_its_own_time(world: World) -> None:
    await get(world, "nobody")
    entry = await world.until_filled("things", "nobody")
    assert entry.state is EntryState.ABSENT
    left = await world.redis.pttl(world.entry_key("things", "nobody"))
    assert 0.9 * 30_000 - 5000 < left <= 1.1 * 30_000


async def test_times_to_live_are_jittered_by_a_tenth(world: World) -> None:
    keys = [str(number) for number in range(100)]
    await world.write("things", *({"_id": key} for key in keys))
    await asyncio.gather(*(get(world, key) for key in keys))
    for key in keys:
        await world.until_filled("things", key)
    left = [await world.redis.pttl(world.entry_key("things", key)) for key in keys]
    assert 0.9 * 3_600_000 - 60_000 < min(left) < 0.95 * 3_600_000
    assert 1.05 * 3_600_000 < max(left) <= 1.1 * 3_600_000


async def test_the_first_hit_since_a_fill_marks_the_entry_as_read(world: World) -> None:
    await world.write("things", {"_id": "a"})
    await get(world, "a")
    assert not (await world.until_filled("things", "a")).touched
    await get(world, "a")

    async def touched() -> bool:
        entry = await world.entry("things", "a")
        return entry is not None and entry.touched

    await eventually(touched, "the entry is marked as read")


async def test_what_is_only_invalidated_is_not_marked_as_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = world.documents["numbers"]
    touches = Commands(monkeypatch, "touch")
    await world.write("numbers", {"_id": 1})
    await world.reader.get(numbers, 1)
    await world.until_filled("numbers", 1)
    assert (await world.reader.get(numbers, 1)).how == "hit"
    assert touches.calls == []


async def test_a_very_large_document_is_answered_and_not_cached(world: World) -> None:
    await world.write("things", {"_id": "a", "pad": "x" * BODY_BYTES})
    for _ in range(2):
        answer = await get(world, "a")
        assert answer.body is not None
        assert (len(answer.body) > BODY_BYTES, answer.how) == (True, "miss")

    async def gone() -> bool:
        return await world.entry("things", "a") is None

    await eventually(gone, "the lease is given back")


@pytest.mark.parametrize("register", ["applied", "floor"])
async def test_while_a_register_is_unknown_nothing_is_cached(world: World, register: str) -> None:
    await world.write("things", {"_id": "a"})
    names = world.cache.names
    await world.cache.delete([names.applied if register == "applied" else names.floor("things")])
    for _ in range(2):
        answer = await get(world, "a")
        assert (answer.body, answer.detail) == (b'{"_id":"a"}', "mongodb")

    async def gone() -> bool:
        return await world.entry("things", "a") is None

    await eventually(gone, "no entry is left")


async def test_an_entry_below_the_floor_is_read_again(world: World) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    await get(world, "a")
    await world.until_filled("things", "a")
    await world.raise_floor("things", await world.write("things", {"_id": "a", "n": 2}))
    answer = await get(world, "a")
    assert (answer.body, answer.how) == (b'{"_id":"a","n":2}', "stale")
    assert (await world.until_filled("things", "a")).version == answer.version


@pytest.mark.parametrize("damage", ["another key's entry", "noise", "nothing"])
async def test_a_corrupt_entry_is_never_served(world: World, damage: str) -> None:
    await world.write("things", {"_id": "a", "n": 1}, {"_id": "b", "n": 2})
    await get(world, "b")
    await world.until_filled("things", "b")
    other: Any = await world.redis.get(world.entry_key("things", "b"))
    raw = {"another key's entry": other, "noise": random.Random(1).randbytes(300), "nothing": b""}[damage]
    await world.redis.set(world.entry_key("things", "a"), raw)
    answer = await get(world, "a")
    assert answer.body == b'{"_id":"a","n":1}'
    assert (await world.until_filled("things", "a")).body == answer.body


# --- changes in the gap between a read and its fill


async def test_a_fill_is_refused_after_a_change_was_applied_in_the_gap(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    gap = Gap(monkeypatch)
    reading = asyncio.create_task(get(world, "a"))
    await until(1, gap.read, "the read")
    version = await world.write("things", {"_id": "a", "n": 2})
    await world.apply("things", ["a"], version)
    gap.go.set()
    assert (await reading).version < version  # what was read; its bound says so

    async def given_back() -> bool:
        entry = await world.entry("things", "a")
        assert entry is None or not entry.fresh
        return entry is None

    await eventually(given_back, "the spoilt lease is given back")
    answer = await get(world, "a")
    assert (answer.body, answer.how) == (b'{"_id":"a","n":2}', "miss")


async def test_a_get_that_saw_the_change_does_not_take_the_answer_of_an_older_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    gap = Gap(monkeypatch)
    early = asyncio.create_task(get(world, "a"))
    await until(1, gap.read, "the read")
    await world.apply("things", ["a"], await world.write("things", {"_id": "a", "n": 2}))
    late = asyncio.create_task(get(world, "a"))
    await asyncio.sleep(0.05)  # it may have joined the read by now, which must not matter
    gap.go.set()
    assert (await early).body == b'{"_id":"a","n":1}'
    assert (await late).body == b'{"_id":"a","n":2}'


async def test_a_fill_is_refused_after_its_entry_has_vanished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.write("things", {"_id": "a", "n": 1})
    gap = Gap(monkeypatch)
    reading = asyncio.create_task(get(world, "a"))
    await until(1, gap.read, "the read")
    await world.cache.delete([world.entry_key("things", "a")])
    await world.apply("things", ["a"], await world.write("things", {"_id": "a", "n": 2}))
    gap.go.set()
    await reading
    await until_answered(world, "a", b'{"_id":"a","n":2}')


async def test_many_random_changes_leave_nothing_stale(world: World) -> None:
    """Readers, a writer and a consumer that applies late, twice and out of order."""
    dice = random.Random(5)
    keys = [str(number) for number in range(8)]
    changes: list[tuple[str, Version]] = []
    done = asyncio.Event()

    async def write() -> None:
        for number in range(60):
            key = dice.choice(keys)
            changes.append((key, await world.write("things", {"_id": key, "n": number})))
        done.set()

    async def consume() -> None:
        seen: list[tuple[str, Version]] = []
        while not done.is_set() or changes:
            dice.shuffle(changes)
            seen += changes[:3]
            del changes[:3]
            for key, version in [*seen[-3:], *dice.sample(seen, min(2, len(seen)))]:
                await world.apply("things", [key], version)
            await asyncio.sleep(0)

    async def read() -> None:
        while not done.is_set():
            await get(world, dice.choice(keys))

    await asyncio.gather(write(), consume(), *(read() for _ in range(4)))
    for key in keys:
        version = await world.loader.now()
        truth = (await world.loader.load(world.things.resource, [key], version)).bodies.get(f"s:{key}")
        await until_answered(world, key, truth)
