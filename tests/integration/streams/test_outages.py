"""What the watcher does when it is killed, and when the broker stands still."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from signal import Signals

import pytest

from neverstale.kafka.events import Mark
from neverstale.ops.stack.broker import Broker, BrokerOptions, start_broker
from neverstale.ops.stack.process import Launch, RunningProcess, python
from neverstale.settings import Settings
from neverstale.streams.acks import Acks, SentBatch
from neverstale.versions import Version, from_timestamp
from tests.faults.rig.nursery import Nursery
from tests.support.stack import run
from tests.support.waiting import eventually
from tests.worlds.watching import (
    COLLECTION,
    PARTITIONS,
    Client,
    Place,
    Published,
    Running,
    real_broker,
    stored,
    until_stored,
    watching,
    write,
)

# --- killing it


@pytest.fixture
def process(place: Place, nursery: Nursery, tmp_path: Path) -> Iterator[Callable[[], RunningProcess]]:
    """Starts `neverstale run watcher`, which is killed at the end."""
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(f'database = "{place.database}"\n[resources.{COLLECTION}]\nkey_type = "string"\n')
    environment = {
        "NEVERSTALE_MONGODB__URI": place.mongo_uri,
        "NEVERSTALE_KAFKA__BOOTSTRAP_SERVERS": place.kafka_servers,
        "NEVERSTALE_KAFKA__TOPIC": place.topic,
        "NEVERSTALE_KAFKA__PARTITIONS": str(PARTITIONS),
        "NEVERSTALE_WATCHER__CHECKPOINT_INTERVAL_MS": "20",
        "NEVERSTALE_CATALOG": str(catalog),
    }
    started: list[RunningProcess] = []

    async def ready() -> bool:
        return True

    def start() -> RunningProcess:
        argv = python("neverstale.ops.cli", "run", "watcher")
        started.append(
            nursery.role()(
                Launch(name="watcher", argv=argv, log=tmp_path / "watcher.log", ready=ready, env=environment)
            )
        )
        return started[-1]

    yield start
    for each in started:
        each.kill()


async def test_killed_at_random_points_it_loses_nothing(
    place: Place, client: Client, process: Callable[[], RunningProcess]
) -> None:
    chance = random.Random(1)
    written: set[Version] = set()

    async def keep_writing() -> None:
        while True:
            written.add(await write(client, place, f"key{chance.randrange(50)}"))

    async with Published.reading(place) as published:
        running = process()
        await published.until(lambda: published.floors)
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(keep_writing())
            for _ in range(4):
                seen = len(published.changes)
                await published.until(lambda seen=seen: len(published.changes) > seen + chance.randrange(1, 60))  # type: ignore[misc]
                running.signal(Signals.SIGKILL)
                running = process()
            writing.cancel()
        await published.until(lambda: written <= published.versions)
        assert len(published.floors) == PARTITIONS


# --- a broker that stands still


@pytest.fixture(scope="module")
def module_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = run(start_broker(BrokerOptions(data=tmp_path_factory.mktemp("broker"))))
    yield broker
    broker.kill()


@pytest.fixture
def own_broker(module_broker: Broker) -> Broker:
    """A broker that the test may halt, with whatever was written to it before. It serves, whoever hurt it last."""
    if module_broker.alive:
        module_broker.signal(Signals.SIGCONT)
    else:
        run(module_broker.restart())
    return module_broker


async def lost_when_the_broker_halts(
    place: Place, client: Client, broker: Broker, settings: Settings
) -> set[Version]:
    """Write while the broker stands still, kill the watcher, let both go on: the changes that never arrive."""
    async with Published.reading(place) as published:
        async with watching(place, COLLECTION, settings=settings) as running:
            await until_stored(client, place, await write(client, place, "before"))
            broker.signal(Signals.SIGSTOP)
            written = {await write(client, place, f"key{number}") for number in range(200)}
            await until_silent_broker_is_reported(running)
            await running.killed()
        broker.signal(Signals.SIGCONT)
        async with watching(place, COLLECTION, settings=settings):
            last = await write(client, place, "after")
            # A mark comes after everything up to it in its partition, and each partition is read by itself.
            await published.until(lambda: all(marked(published, number, last) for number in range(PARTITIONS)))
            return written - published.versions


def marked(published: Published, partition: int, version: Version) -> bool:
    return any(isinstance(event, Mark) and event.version >= version for event in published.of_partition(partition))


async def until_silent_broker_is_reported(running: Running) -> None:
    async def reported() -> bool:
        return running.health.parts["kafka"] is not None

    await eventually(reported, "readiness names kafka", 30)


async def test_no_position_is_stored_before_kafka_has_everything_behind_it(
    place: Place, client: Client, own_broker: Broker
) -> None:
    place = Place(place.mongo_uri, own_broker.bootstrap_servers, place.database, place.topic)
    assert await lost_when_the_broker_halts(place, client, own_broker, place.settings()) == set()


async def test_a_position_stored_too_early_would_lose_changes(
    place: Place, client: Client, own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    add: Callable[[Acks, SentBatch], Awaitable[None]] = Acks.add

    async def add_and_store(acks: Acks, flight: SentBatch) -> None:
        acks._reached(flight.position)
        await add(acks, flight)

    monkeypatch.setattr(Acks, "add", add_and_store)
    place = Place(place.mongo_uri, own_broker.bootstrap_servers, place.database, place.topic)
    assert await lost_when_the_broker_halts(place, client, own_broker, place.settings()) != set()


async def test_a_halted_broker_freezes_the_position_and_stops_the_reading(
    place: Place, client: Client, own_broker: Broker
) -> None:
    place = Place(place.mongo_uri, own_broker.bootstrap_servers, place.database, place.topic)
    settings = place.settings(batch_size=10, max_in_flight_batches=2)
    async with Published.reading(place) as published, watching(place, COLLECTION, settings=settings) as running:
        await until_stored(client, place, await write(client, place, "before"))
        own_broker.signal(Signals.SIGSTOP)
        first = await write(client, place, "first")
        written = {first} | {await write(client, place, f"key{number}") for number in range(200)}
        await until_silent_broker_is_reported(running)
        found = await stored(client, place)
        assert found is not None
        assert from_timestamp(found["version"]) <= first
        own_broker.signal(Signals.SIGCONT)
        await published.until(lambda: written <= published.versions)

        async def ready() -> bool:
            return running.health.ready

        await eventually(ready, "ready again", 30)
        await running.stopped()


async def test_a_stop_ends_in_time_although_the_broker_is_gone(
    place: Place, client: Client, own_broker: Broker
) -> None:
    place = Place(place.mongo_uri, own_broker.bootstrap_servers, place.database, place.topic)
    async with watching(place, COLLECTION) as running:
        await until_stored(client, place, await write(client, place, "before"))
        own_broker.kill()
        await write(client, place, "after")
        await asyncio.wait_for(running.stopped(), place.settings().service.drain_seconds)


async def test_a_broker_that_comes_back_is_given_everything(place: Place, client: Client, own_broker: Broker) -> None:
    place = Place(place.mongo_uri, own_broker.bootstrap_servers, place.database, place.topic)
    await (await real_broker(place)).close()
    async with watching(place, COLLECTION) as running:
        await until_stored(client, place, await write(client, place, "before"))
        own_broker.kill()
        written = {await write(client, place, f"key{number}") for number in range(200)}
        await until_silent_broker_is_reported(running)
        await own_broker.restart()
        async with Published.reading(place) as published:
            await published.until(lambda: written <= published.versions, 60)


async def test_a_deleted_topic_is_created_again_and_voids_what_was_told(place: Place, client: Client) -> None:
    """Long before the producer gives up."""
    admin, loop, errors = await real_broker(place), asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: errors.append(context))
    settings = place.settings()
    patient = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"request_timeout_ms": 90_000})})
    async with watching(place, COLLECTION, settings=patient) as running:
        await until_stored(client, place, await write(client, place, "before"))
        await admin.delete_topics([place.topic])
        await admin.close()
        version = await write(client, place, "after")
        async with Published.reading(place) as published:
            await published.until(lambda: version in published.versions, 60)
            assert {floor.reason for floor in published.floors} == {"the topic was created again"}
            assert len(published.floors) == PARTITIONS
        assert not running.task.done()
    assert errors == []
