"""Several watchers of one group: one works, the others stand by."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from neverstale.streams.checkpoint import Checkpoint, Position
from neverstale.streams.lease import Lease, LeaseLost
from tests.support.waiting import eventually
from tests.worlds.watching import (
    COLLECTION,
    PARTITIONS,
    Client,
    Place,
    Published,
    Running,
    until_stored,
    watching,
    write,
)

LEASE_MS = 1000


def lease(client: Client, place: Place, lease_ms: int = LEASE_MS) -> Lease:
    return Lease(client[place.database], "default", lease_ms)


def ready(running: Running) -> Callable[[], Awaitable[bool]]:
    async def is_ready() -> bool:
        return running.health.ready

    return is_ready


async def taken(lease: Lease) -> None:
    await eventually(lease.acquire, "the lease is taken", 20)


async def test_only_one_of_two_holds_the_lease(place: Place, client: Client) -> None:
    one, other = lease(client, place, 60_000), lease(client, place, 60_000)
    assert await one.acquire()
    assert not await other.acquire()
    term = one.term
    assert await one.acquire()
    assert one.term == term > 0


async def test_a_lease_that_was_given_back_is_taken_at_once_with_a_higher_term(place: Place, client: Client) -> None:
    one, other = lease(client, place, 60_000), lease(client, place, 60_000)
    assert await one.acquire()
    term = one.term
    await one.release()
    assert await other.acquire()
    assert other.term > term


async def test_a_lease_that_was_dropped_with_its_database_is_put_back(place: Place, client: Client) -> None:
    one, other = lease(client, place), lease(client, place, 60_000)
    assert await one.acquire()
    term = one.term
    keeping = asyncio.create_task(one.keep())
    await client.drop_database(place.database)
    control = client[place.database]["neverstale.control"]

    async def is_back() -> bool:
        return await control.find_one({"_id": "lease:default", "term": term}) is not None

    await eventually(is_back, "the lease is put back")
    assert not await other.acquire()
    assert not keeping.done()
    keeping.cancel()


async def test_terms_rise_even_if_the_lease_was_forgotten(place: Place, client: Client) -> None:
    one, other = lease(client, place), lease(client, place)
    assert await one.acquire()
    await client[place.database]["neverstale.control"].delete_one({"_id": "lease:default"})
    assert await other.acquire()
    assert other.term > one.term


async def test_a_lease_that_is_not_renewed_runs_out_by_the_servers_clock(place: Place, client: Client) -> None:
    one, other = lease(client, place), lease(client, place)
    assert await one.acquire()
    await taken(other)
    assert other.term > one.term
    with pytest.raises(LeaseLost):
        await one.keep()


async def test_a_lease_that_is_renewed_does_not_run_out(place: Place, client: Client) -> None:
    one, other = lease(client, place), lease(client, place)
    assert await one.acquire()
    keeping = asyncio.create_task(one.keep())
    began = time.monotonic()
    while time.monotonic() - began < 2 * LEASE_MS / 1000:
        assert not await other.acquire()
        await asyncio.sleep(0.05)
    keeping.cancel()


async def test_a_zombies_position_is_refused(place: Place, client: Client) -> None:
    database = client[place.database]
    late, zombie = Checkpoint(database, "default", term=2), Checkpoint(database, "default", term=1)
    position = Position({"_data": "82" + "0" * 15 + "1"}, PARTITIONS)
    late.reached(position)
    await late.save()
    zombie.reached(position)
    with pytest.raises(LeaseLost):
        await zombie.save()


async def test_a_standby_takes_over_where_a_killed_watcher_stopped(place: Place, client: Client) -> None:
    async with Published.reading(place) as published, watching(place, COLLECTION) as active:
        await until_stored(client, place, await write(client, place, "a"))
        async with watching(place, COLLECTION) as standby:
            await eventually(ready(standby), "the standby is ready")
            await active.killed()
            missed = await write(client, place, "b")
            await published.until(lambda: missed in published.versions)
            first = published.marks[0].term
            await published.until(lambda: any(m.term > first and m.version >= missed for m in published.marks))
        assert len(published.floors) <= PARTITIONS


async def test_a_standby_takes_over_at_once_from_a_watcher_that_is_stopped(place: Place, client: Client) -> None:
    settings = place.settings(lease_ms=60_000)
    async with Published.reading(place) as published, watching(place, COLLECTION, settings=settings) as active:
        await until_stored(client, place, await write(client, place, "a"))
        async with watching(place, COLLECTION, settings=settings):
            await active.stopped()
            missed = await write(client, place, "b")
            await published.until(lambda: missed in published.versions)
