"""What marks promise, checked against what was written and what the topic holds."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from neverstale.kafka.events import Change, Event, Mark
from neverstale.versions import Version, from_timestamp
from tests.worlds.watching import COLLECTION, PARTITIONS, Client, Place, Published, until_stored, watching, write

SECOND: Final = 1 << 32
"""Between two versions."""


Acked = tuple[Version, int]
"""A change and when its writer had the acknowledgement of a majority, rounded up to milliseconds since 1970."""


async def keep_writing(client: Client, place: Place, number: int, acked: list[Acked]) -> None:
    """Single writes and transactions, one after the other, until cancelled."""
    database = client[place.database]
    while True:
        version = await write(client, place, f"{number}")
        acked.append((version, int(time.time() * 1000) + 1))
        async with client.start_session() as session:
            async with await session.start_transaction():
                for other in range(5):
                    await database[COLLECTION].update_one(
                        {"_id": f"{number}-{other}"}, {"$inc": {"n": 1}}, upsert=True, session=session
                    )
            assert session.operation_time is not None
            acked.append((from_timestamp(session.operation_time), int(time.time() * 1000) + 1))


def late_changes(partition: Iterable[Event]) -> list[Change]:
    """Changes behind a mark that promised that they would not come."""
    promised, late = 0, []
    for event in partition:
        if isinstance(event, Mark):
            promised = max(promised, event.version)
        elif isinstance(event, Change) and event.version <= promised:
            late.append(event)
    return late


def uncovered(marks: Iterable[Mark], acked: Iterable[Acked]) -> list[Acked]:
    """Acknowledgements before a mark's wall time of changes that the mark does not cover."""
    latest = sorted(marks, key=lambda mark: mark.wall_ms)
    return [
        (version, at)
        for version, at in acked
        if any(mark.wall_ms > at and mark.version < version for mark in latest[-400:])
    ]


async def test_a_mark_keeps_both_promises_while_many_write(place: Place, client: Client) -> None:
    acked: list[Acked] = []
    settings = place.settings(mark_interval_ms=5, heartbeat_ms=50)
    async with Published.reading(place) as published, watching(place, COLLECTION, settings=settings):
        await published.until(lambda: published.floors)
        async with asyncio.TaskGroup() as group:
            writers = [group.create_task(keep_writing(client, place, number, acked)) for number in range(4)]
            await published.until(lambda: len({mark.version for mark in published.marks}) > 60)
            for writer in writers:
                writer.cancel()
        end = await write(client, place, "end")
        await published.until(lambda: min(last_marks(published)) >= end)

        partitions = [published.of_partition(number) for number in range(PARTITIONS)]
        assert len(acked) > 50
        assert not [late for partition in partitions for late in late_changes(partition)]
        assert not uncovered(published.marks, acked)
        # Marks that promise more than ours would be caught by these checks.
        assert [late for partition in partitions for late in late_changes(further(partition, version=SECOND))]
        assert uncovered(further(published.marks, wall_ms=1000), acked)


def last_marks(published: Published) -> list[Version]:
    """The newest mark's version of each partition, 0 if it has none."""
    return [
        max((event.version for event in published.of_partition(number) if isinstance(event, Mark)), default=0)
        for number in range(PARTITIONS)
    ]


def further(events: Iterable[Any], version: int = 0, wall_ms: int = 0) -> list[Any]:
    """The same, with marks that promise too much."""
    return [
        replace(event, version=event.version + version, wall_ms=event.wall_ms + wall_ms)
        if isinstance(event, Mark)
        else event
        for event in events
    ]


async def test_marks_keep_coming_on_a_quiet_database(place: Place) -> None:
    async with Published.reading(place) as published, watching(place, COLLECTION):
        await published.until(lambda: len({mark.version for mark in published.marks}) >= 4)
        await published.until(every_partition_has(published, lambda: published.marks[0].version))
        assert {(mark.partitions, mark.term) for mark in published.marks} == {(PARTITIONS, published.marks[0].term)}
        marks = [event for event in published.of_partition(0) if isinstance(event, Mark)]
        assert [mark.version for mark in marks] == sorted({mark.version for mark in marks})
        assert [mark.wall_ms for mark in marks] == sorted(mark.wall_ms for mark in marks)


def every_partition_has(published: Published, version: Callable[[], Version]) -> Callable[[], bool]:
    return lambda: min(last_marks(published)) >= version()


async def test_a_mark_in_hand_is_hardly_older_than_a_heartbeat(place: Place) -> None:
    settings = place.settings(heartbeat_ms=300)
    async with Published.reading(place) as published, watching(place, COLLECTION, settings=settings):
        await published.until(lambda: published.marks)
        bounds = []
        for _ in range(5):
            known = published.marks[-1].wall_ms
            await published.until(lambda known=known: published.marks[-1].wall_ms > known)  # type: ignore[misc]
            # Just before a mark comes, the one before is at its oldest.
            bounds.append(time.time() * 1000 - known)
        # The best of some, since the machine may be busy; without early marks it would be two heartbeats.
        assert min(bounds) < 500


async def test_a_change_that_no_other_follows_is_covered_without_waiting_for_a_heartbeat(
    place: Place, client: Client
) -> None:
    settings = place.settings(heartbeat_ms=60_000)
    async with Published.reading(place) as published, watching(place, COLLECTION, settings=settings):
        await published.until(lambda: published.floors)
        version = await write(client, place, "alone")
        await published.until(every_partition_has(published, lambda: version), 20)


async def test_heartbeats_stop_when_nothing_needs_them(place: Place, client: Client) -> None:
    settings = place.settings(heartbeat_ms=60_000)
    async with Published.reading(place) as published, watching(place, COLLECTION, settings=settings) as running:
        await published.until(lambda: published.floors)
        version = await write(client, place, "alone")
        await published.until(every_partition_has(published, lambda: version))
        await until_stored(client, place, version)
        await running.stopped()
        heartbeat = await client[place.database]["neverstale.heartbeat"].find_one({"_id": "default"})
        assert heartbeat is not None
        assert heartbeat["beats"] <= 3
