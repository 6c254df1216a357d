"""Refreshing: what is read together, what is tried again, and what is dropped."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from neverstale.catalog import Resource
from neverstale.consumers.refresh import KEYS_A_LOAD, HeldLease, Refresher
from neverstale.errors import Outage
from neverstale.keys import KeyValue
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.redis.cache import Cache, Fill
from neverstale.role import telemetry
from neverstale.role.tasks import cancelled
from neverstale.settings import ConsumerSettings
from tests.support.waiting import eventually

ITEMS = Resource(name="items", collection="items", key_type="int", ttl_seconds=100, absent_ttl_seconds=10)


class ScriptedLoader:
    """Documents 0-999 exist; every read is one version later than what was asked for."""

    def __init__(self) -> None:
        self.reads: list[tuple[list[KeyValue], int]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    async def load(self, resource: Resource, keys: Sequence[KeyValue], at_least: int) -> Snapshot:
        self.reads.append((list(keys), at_least))
        await self.may_answer.wait()
        if self.error:
            raise self.error
        return Snapshot(at_least + 1, {f"i:{key}": b"{}" for key in keys if int(str(key)) < 1000})


class ScriptedCache:
    """Answers `filled`, or what is in `answers` first."""

    def __init__(self, *answers: str) -> None:
        self.fills: list[Fill] = []
        self._answers = list(answers)

    async def fill(self, fills: Sequence[Fill]) -> list[str]:
        self.fills += fills
        return [self._answers.pop(0) if self._answers else "filled" for _ in fills]


def held(number: int, at_least: int = 7) -> HeldLease:
    return HeldLease(f"ns:items:d:i:{number}".encode(), f"i:{number}", b"token", at_least)


def refreshes(result: str) -> float:
    return telemetry.REGISTRY.get_sample_value("neverstale_refreshes_total", {"result": result}) or 0.0


@asynccontextmanager
async def refreshing(cache: ScriptedCache, loader: ScriptedLoader, **settings: int) -> AsyncIterator[Refresher]:
    section = ConsumerSettings.model_validate({"refresh_concurrency": 1, **settings})
    refresher = Refresher(cast("Cache", cache), cast("Loader", loader), section, chance=lambda: 1.0)
    task = asyncio.create_task(refresher.work())
    try:
        yield refresher
    finally:
        await cancelled(task)


async def until(condition: Any) -> None:
    async def holds() -> bool:
        return bool(condition())

    await eventually(holds, "the refresh was made")


async def test_a_refresh_reads_at_the_batchs_version_and_fills_with_its_lease() -> None:
    cache, loader = ScriptedCache(), ScriptedLoader()
    async with refreshing(cache, loader) as refresher:
        refresher.offer(ITEMS, [held(1)])
        await until(lambda: cache.fills)
    assert loader.reads == [([1], 7)]
    assert cache.fills == [Fill(b"ns:items:d:i:1", b"token", 8, b"{}", 110_000, ITEMS.shows)]


async def test_a_document_that_is_gone_is_filled_as_absent_with_its_own_time_to_live() -> None:
    cache, loader = ScriptedCache(), ScriptedLoader()
    async with refreshing(cache, loader) as refresher:
        refresher.offer(ITEMS, [held(1001)])
        await until(lambda: cache.fills)
    assert [(fill.body, fill.ttl_ms) for fill in cache.fills] == [(None, 11_000)]


async def test_what_comes_while_the_workers_are_busy_is_read_together() -> None:
    cache, loader = ScriptedCache(), ScriptedLoader()
    loader.may_answer.clear()
    async with refreshing(cache, loader) as refresher:
        refresher.offer(ITEMS, [held(1)])
        await until(lambda: loader.reads)
        for number in range(2, 5):
            refresher.offer(ITEMS, [held(number, at_least=number)])
        loader.may_answer.set()
        await until(lambda: len(cache.fills) == 4)
    assert loader.reads == [([1], 7), ([2, 3, 4], 4)]


async def test_a_read_asks_for_no_more_keys_than_it_may() -> None:
    cache, loader = ScriptedCache(), ScriptedLoader()
    async with refreshing(cache, loader) as refresher:
        refresher.offer(ITEMS, [held(number) for number in range(2 * KEYS_A_LOAD + 1)])
        await until(lambda: len(cache.fills) == 2 * KEYS_A_LOAD + 1)
    assert [len(keys) for keys, _ in loader.reads] == [KEYS_A_LOAD, KEYS_A_LOAD, 1]


async def test_more_than_there_is_room_for_is_dropped() -> None:
    cache, loader = ScriptedCache(), ScriptedLoader()
    dropped = refreshes("dropped")
    async with refreshing(cache, loader, refresh_queue=2) as refresher:
        refresher.offer(ITEMS, [held(number) for number in range(5)])
        assert refreshes("dropped") == dropped + 3
        await until(lambda: len(cache.fills) == 2)
        refresher.offer(ITEMS, [held(9)])
        await until(lambda: len(cache.fills) == 3)


async def test_an_entry_that_changed_again_meanwhile_is_read_again() -> None:
    cache, loader = ScriptedCache("filled", "version"), ScriptedLoader()
    async with refreshing(cache, loader) as refresher:
        refresher.offer(ITEMS, [held(1), held(2)])
        await until(lambda: len(cache.fills) == 3)
    assert [keys for keys, _ in loader.reads] == [[1, 2], [2]]


async def test_an_entry_that_changes_all_the_time_is_left_to_its_readers() -> None:
    cache, loader = ScriptedCache(*["version"] * 9), ScriptedLoader()
    given_up = refreshes("version")
    async with refreshing(cache, loader) as refresher:
        refresher.offer(ITEMS, [held(1)])
        await until(lambda: refreshes("version") == given_up + 1)
    assert len(loader.reads) == 3


async def test_a_lease_that_was_lost_is_not_fought_for() -> None:
    cache, loader = ScriptedCache("token", "missing"), ScriptedLoader()
    async with refreshing(cache, loader) as refresher:
        refresher.offer(ITEMS, [held(1), held(2), held(3)])
        await until(lambda: len(cache.fills) == 3)
    assert len(loader.reads) == 1


async def test_a_failed_read_drops_its_refreshes_and_the_next_go_on() -> None:
    cache, loader = ScriptedCache(), ScriptedLoader()
    for error, result in ((Outage("mongodb", "away"), "mongodb"), (RuntimeError("unforeseen"), "failed")):
        before = refreshes(result)
        loader.error = error
        async with refreshing(cache, loader) as refresher:
            refresher.offer(ITEMS, [held(1)])
            await until(lambda: refreshes(result) == before + 1)  # noqa: B023 (used within the round)
            loader.error = None
            refresher.offer(ITEMS, [held(2)])
            await until(lambda: cache.fills)
        cache.fills.clear()
