"""L1 on real servers: what consumers announce reaches it, and whatever goes wrong with that voids it.

The experiments disturb the announcements between consumers and one API process: dropped, delayed, doubled, reordered.
Writers, a consumer's applying and readers run at once, and every answer is checked against its own bound. Each has a
negative control, which must find an answer that broke its bound, or a stale one for good.
"""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from neverstale.api.hits.channel import Channel
from neverstale.api.reads.l1 import L1, Reading
from neverstale.redis.announcements import Announcer
from neverstale.redis.corrections import Corrections
from tests.support.waiting import eventually
from tests.worlds.api import PARTITIONS, World, catalog_of, settings_of
from tests.worlds.hits import Client, Served, all_partitions, body, header, request

SILENCE_MS = 60_000
"""Longer than any test: a busy machine must not be taken for a dead consumer."""


@pytest.fixture
async def world(mongo_uri: str, redis_url: str, redis_prefix: str, database: str) -> AsyncIterator[World]:
    settings = settings_of(mongo_uri, redis_url, redis_prefix, channel_silence_ms=SILENCE_MS)
    async with World.of(settings, catalog_of(database)) as world:
        await world.write("things", {"_id": "a", "n": 1}, {"_id": "b", "n": 1})
        yield world


@pytest.fixture
async def served(world: World) -> AsyncIterator[Served]:
    async with Served.of(world) as served:
        yield served


async def voided(served: Served) -> None:
    async def empty() -> bool:
        return served.hot.l1.watermark == 0 and len(served.hot.l1.answers) == 0

    await eventually(empty, "L1 is void")


async def test_a_change_drops_its_entry_and_no_other(served: Served) -> None:
    await served.kept("/v1/things/a", "a")
    await served.kept("/v1/things/b", "b")
    await served.change("things", "a", {"n": 2})

    async def dropped() -> bool:
        return served.hot.l1.answers.get(b"GET /v1/things/a HTTP/1.1") is None

    await eventually(dropped, "the announcement was heard")
    assert served.hot.l1.answers.get(b"GET /v1/things/b HTTP/1.1") is not None


async def test_a_change_of_what_redis_no_longer_holds_is_announced_too(served: Served, world: World) -> None:
    await served.kept("/v1/things/a", "a")
    await world.cache.delete([world.entry_key("things", "a")])
    await served.change("things", "a", {"n": 2})

    async def dropped() -> bool:
        return served.hot.l1.answers.get(b"GET /v1/things/a HTTP/1.1") is None

    await eventually(dropped, "the announcement was heard")


async def test_an_absence_is_dropped_when_the_document_appears(served: Served) -> None:
    await served.kept("/v1/things/new", "new")
    await served.change("things", "new", {"n": 1})

    async def appeared() -> bool:
        async with served.connection() as client:
            return b"200 OK" in await client.get("/v1/things/new")

    await eventually(appeared, "the document is found")


async def test_a_floor_empties_l1_and_leaves_it_vouched_for(served: Served, world: World) -> None:
    await served.kept("/v1/things/a", "a")
    await world.raise_floor("things", await world.loader.now())

    async def empty() -> bool:
        return len(served.hot.l1.answers) == 0

    await eventually(empty, "the floor was heard")
    assert served.hot.l1.watermark > 0


async def test_a_gap_in_a_publishers_numbers_voids_l1(served: Served) -> None:
    await served.kept("/v1/things/a", "a")
    served.announcer.changes([b"lost"], [])
    await served.world.apply("things", ["b"], await served.world.loader.now())
    await voided(served)


async def test_what_cannot_be_read_voids_l1(served: Served, world: World) -> None:
    await served.kept("/v1/things/a", "a")
    await world.redis.publish(world.cache.names.announcements, b"nonsense")
    await voided(served)


async def test_marks_about_another_redis_void_l1(served: Served, world: World) -> None:
    await served.kept("/v1/things/a", "a")
    message = served.announcer.marks("another", 4, all_partitions(await world.loader.now(), 0))
    await world.redis.publish(world.cache.names.announcements, message)
    await voided(served)


async def test_a_partition_that_changes_hands_voids_l1(served: Served, world: World) -> None:
    await served.kept("/v1/things/a", "a")
    world.cache = Corrections(world.redis, world.cache.names, Announcer())
    await world.mark()
    await voided(served)
    await served.kept("/v1/things/a", "a")


async def test_a_broken_subscription_voids_l1_and_another_one_begins(served: Served, world: World) -> None:
    await served.kept("/v1/things/a", "a")
    await world.redis.client_kill_filter(_type="pubsub")
    await voided(served)
    await served.kept("/v1/things/a", "a")


async def test_silence_voids_l1(world: World) -> None:
    world.settings.api.__dict__["channel_silence_ms"] = 300
    async with Served.of(world) as served:
        await served.vouched()
        await voided(served)


async def test_without_bytes_nothing_is_kept_or_heard(world: World) -> None:
    world.settings.api.__dict__["l1_bytes"] = 0
    async with Served.of(world) as served:
        await served.mark()
        async with served.connection() as client:
            for _ in range(3):
                assert b"detail=l1" not in await client.get("/v1/things/a")
        assert served.hot.l1.watermark == 0


# --- the race that the placeholder closes


async def stale_after_a_race(served: Served) -> bool:
    """A value is read from Redis, changed, applied and announced, and only then does the reply arrive."""
    await served.kept("/v1/things/a", "a")
    await served.change("things", "a", {"n": 2})
    async with served.connection() as client:
        await until_hit(client, b'"n":2')
        await served.vouched()
        served.hot.l1.answers.clear()
        cache: Any = served.state.hits
        arrived, go_on = asyncio.Event(), asyncio.Event()
        read_raw = cache.read_raw

        async def late(*arguments: Any) -> Any:
            found = await read_raw(*arguments)
            arrived.set()
            await go_on.wait()
            return found

        cache.read_raw = late
        client.send(request("/v1/things/a"))
        await arrived.wait()
        cache.read_raw = read_raw
        await served.change("things", "a", {"n": 3})
        watermark = await served.vouched()
        go_on.set()
        await client.receive()
        answer = await client.get("/v1/things/a")
    assert served.hot.l1.watermark >= watermark
    return b'"n":3' not in answer


async def until_hit(client: Client, wanted: bytes) -> None:
    async def hit() -> bool:
        answer = await client.get("/v1/things/a")
        return wanted in answer and b"; hit" in answer

    await eventually(hit, f"{wanted!r} is a hit")


async def test_an_announcement_that_overtakes_a_reply_is_heeded(served: Served) -> None:
    assert not await stale_after_a_race(served)


async def test_without_the_placeholder_the_same_race_leaves_a_stale_answer(served: Served) -> None:
    with no_placeholder(served.hot.l1):
        assert await stale_after_a_race(served)


@contextmanager
def no_placeholder(l1: L1) -> Iterator[None]:
    """Readings are noted, but no announcement reaches them."""

    class Deaf(Reading):
        def spoil(self, key: bytes) -> None: ...

    begin = l1.begin

    def deaf(keys: frozenset[bytes], group: str) -> Reading:
        l1.end(begin(keys, group))
        reading = Deaf(keys, spoilt=not l1.watermark)
        l1._readings.add(reading)
        return reading

    l1.begin = deaf  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        l1.begin = begin  # type: ignore[method-assign]


# --- announcements that come wrong, under load

Disturb = Callable[[list[bytes]], list[bytes]]
"""From messages as they were published to messages as they are heard."""


WRITES = 60
READS = 2_500
MOST_SECONDS = 60.0
READ_PAUSE_SECONDS = 0.001
"""Without it, readers leave writers hardly a moment."""


@dataclass
class Checked:
    """What readers saw, against what was written."""

    writes: int = 0
    reads: int = 0
    from_l1: int = 0
    broken: list[str] = field(default_factory=list)

    @property
    def enough(self) -> bool:
        return self.writes >= WRITES and self.reads >= READS


@dataclass
class Ledger:
    """Key -> number -> when its successor was acknowledged, by our own clock."""

    replaced: dict[str, dict[int, float]] = field(default_factory=dict)

    def check(self, key: str, answer: bytes, sent: float) -> str | None:
        """An answer may lack only what was acknowledged less than its bound before it was written."""
        number = int(re.search(rb'"n":(\d+)', body(answer))[1])  # type: ignore[index]
        bound = header(answer, "neverstale-bound")
        replaced = self.replaced[key].get(number)
        if bound in (None, "unknown") or replaced is None:
            return None
        age = sent - replaced
        return f"{key} n={number} was replaced {age:.3f} s before, bound {bound}" if age > float(bound or 0) else None


async def under_load(served: Served, disturb: Disturb, seed: int, *, until_broken: bool = False) -> Checked:
    """Write, apply and read until enough is seen, with announcements passed through `disturb`. Two consumers share
    keys and partitions."""
    world, chance, checked, ledger = served.world, random.Random(seed), Checked(), Ledger()
    keys = [f"k{number}" for number in range(8)]
    for key in keys:
        ledger.replaced[key] = {}
        await world.write("things", {"_id": key, "n": 0})
    consumers = [Corrections(world.redis, world.cache.names, Announcer(name)) for name in ("even", "odd")]

    async def heard() -> bool:
        await mark_now(world, consumers)
        return served.hot.l1.watermark > 0

    await served.mark()
    await eventually(heard, "L1 is vouched for")
    channel = heard_by(served)
    held: list[bytes] = []
    original = channel.hear

    def hear(message: bytes) -> None:
        held.append(message)
        for each in disturb(held):
            original(each)

    channel.hear = hear  # type: ignore[method-assign]
    deadline = time.monotonic() + MOST_SECONDS

    def done() -> bool:
        return checked.enough or time.monotonic() > deadline or (until_broken and bool(checked.broken))

    async def write() -> None:
        number = 0
        while not done():
            number += 1
            key = chance.choice(keys)
            last = max(ledger.replaced[key], default=-1) + 1
            version = await world.write("things", {"_id": key, "n": last + 1})
            ledger.replaced[key][last] = time.monotonic()
            checked.writes += 1
            world.cache = consumers[keys.index(key) % 2]
            await world.apply("things", [key], version)
            if number % 3 == 0:
                await mark_now(world, consumers)

    async def read() -> None:
        async with served.connection() as client:
            while not done():
                await asyncio.sleep(READ_PAUSE_SECONDS)
                key = chance.choice(keys)
                sent = time.monotonic()
                answer = await client.get(f"/v1/things/{key}")
                checked.reads += 1
                checked.from_l1 += b"detail=l1" in answer
                if (wrong := ledger.check(key, answer, sent)) is not None:
                    checked.broken.append(wrong)

    await asyncio.gather(write(), *(read() for _ in range(4)))
    return checked


async def mark_now(world: World, consumers: Sequence[Corrections]) -> None:
    """As `World.mark`, without waiting until anybody knows. The wall time is taken before the version."""
    wall_ms = await world.primary_ms()
    version = await world.loader.now()
    identity = await world.cache.identity()
    for number, consumer in enumerate(consumers):
        marks = dict.fromkeys(range(number, PARTITIONS, len(consumers)), (version, wall_ms))
        await consumer.set_watermarks(world.settings.kafka.group, identity, PARTITIONS, marks)


def heard_by(served: Served) -> Channel:
    channel = served.state.channel
    assert channel is not None
    return channel


def as_they_come(held: list[bytes]) -> list[bytes]:
    messages = held[:]
    held.clear()
    return messages


def dropping(chance: random.Random) -> Disturb:
    def disturb(held: list[bytes]) -> list[bytes]:
        return [message for message in as_they_come(held) if chance.random() > 0.05]

    return disturb


def doubling(chance: random.Random) -> Disturb:
    earlier: list[bytes] = []

    def disturb(held: list[bytes]) -> list[bytes]:
        messages = as_they_come(held)
        earlier.extend(messages)
        again = [chance.choice(earlier)] if chance.random() < 0.3 else []
        return messages + again

    return disturb


def delaying(chance: random.Random) -> Disturb:
    """Held back in their order, then told all at once: a slow connection."""

    def disturb(held: list[bytes]) -> list[bytes]:
        return as_they_come(held) if chance.random() < 0.1 else []

    return disturb


def reordering(chance: random.Random) -> Disturb:
    """What one publisher says is held back while the other goes on."""

    def disturb(held: list[bytes]) -> list[bytes]:
        if chance.random() < 0.2:
            return as_they_come(held)
        now = [message for message in held if b'"by":"even"' in message]
        held[:] = [message for message in held if message not in now]
        return now

    return disturb


DISTURBANCES: dict[str, Callable[[random.Random], Disturb]] = {
    "as they come": lambda _: as_they_come,
    "dropped": dropping,
    "doubled": doubling,
    "delayed": delaying,
    "reordered between publishers": reordering,
}


@pytest.mark.parametrize("how", DISTURBANCES)
async def test_no_answer_is_older_than_its_own_bound(served: Served, how: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    checked = await under_load(served, DISTURBANCES[how](random.Random(seed)), seed)
    print(
        f"announcements {how}: {len(checked.broken)} of {checked.reads} answers broke their bound, "
        f"{checked.from_l1} were from L1, {checked.writes} writes, seed {seed}"
    )
    assert checked.broken == []
    assert checked.enough
    assert checked.from_l1 > checked.reads / 50


async def test_without_heeding_changes_answers_break_their_bounds(served: Served) -> None:
    """The negative control: marks are heard, changes are not, and no gap is noticed."""
    served.hot.l1.changed = lambda key, lines: None  # type: ignore[method-assign]
    checked = await under_load(served, as_they_come, 1, until_broken=True)
    print(f"changes not heeded: {len(checked.broken)} of {checked.reads} answers broke their bound")
    assert checked.broken
