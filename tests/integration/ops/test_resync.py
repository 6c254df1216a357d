"""`neverstale resync` and `neverstale invalidate`: what was read before is stale, all of it, and nothing else."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest

from neverstale.catalog import Catalog
from neverstale.derived.reading import page_floor, tag_fields
from neverstale.kafka.topic import ensure_topic
from neverstale.keys import Names, canonical
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.walks import Walk, Walks
from neverstale.ops.repair import invalidate as invalidating
from neverstale.ops.repair.invalidate import invalidate
from neverstale.ops.repair.resync import Resync, ResyncWanted, resync
from neverstale.redis.cache import Cache, Fill
from neverstale.role import telemetry
from neverstale.settings import Settings, WatcherSettings
from neverstale.streams.walk import step_of
from neverstale.versions import Version, from_hex
from tests.support.waiting import eventually
from tests.worlds.deriving import RESOURCE, Deriving, Writer, catalog_of, kill

COUNT = 60
KEYS = [f"k{number:02}" for number in range(COUNT)]


class World(Deriving):
    """Servers, with entries as readers fill them."""

    @property
    def cache(self) -> Cache:
        return Cache(self.redis, Names(self.settings.redis.prefix))

    @property
    def walks(self) -> Walks:
        return Walks(self.mongo, self.catalog.database, self.settings.kafka)

    async def now(self) -> Version:
        return await Loader(self.mongo, self.catalog.database, 20_000).now()

    async def insert(self) -> None:
        writer = Writer(self, seed=1)
        await self.documents.insert_many([writer.document(key) for key in KEYS])

    async def fill(self, *keys: str) -> Version:
        """Cache some text for each key, read just now; the version of that."""
        names, version = [self.cache.names.entry(RESOURCE, canonical(key)) for key in keys], await self.now()
        leases = await self.cache.lease(RESOURCE, names, 0, 5000)
        fills = [Fill(name, leases.token, version, b"{}", 600_000) for name in names]
        assert await self.cache.fill(fills) == ["filled"] * len(keys)
        return version

    async def good(self, *keys: str) -> list[str]:
        """The keys whose entries may be served."""
        names = [self.cache.names.entry(RESOURCE, canonical(key)) for key in keys]
        floor, found = await self.cache.read(RESOURCE, names)
        assert floor is not None
        return [
            key
            for key, entry in zip(keys, found, strict=True)
            if entry is not None and entry.state.name == "DATA" and entry.version >= floor
        ]

    async def good_pages(self) -> int:
        """How many of the pages that were filled may be served."""
        (known,) = (await self.store.generations()).all
        floor, _ = await self.cache.read(RESOURCE, [])
        good = 0
        for page in self.pages:
            held = await self._hash(self.store.names.of(known.id).tags(page.name))
            least = page_floor(known, floor, [held.get(name) for name in tag_fields(page.group)])
            good += least is not None and page.version >= least
        return good

    async def resync(self, rate: float | None = None, stop: bool = False) -> Resync:
        return await resync(self.settings, self.catalog, ResyncWanted(RESOURCE, rate, stop), quiet=True)

    async def until_passed(self, count: int) -> Walk:
        async def passed() -> bool:
            walk = await self.walks.of("resync", RESOURCE)
            return walk is not None and walk.state == "walking" and walk.passed >= count

        await eventually(passed, f"{count} documents are passed", 30)
        walk = await self.walks.of("resync", RESOURCE)
        assert walk is not None
        return walk

    async def invalidate(self, *words: str, everything: bool = False) -> invalidating.Invalidation:
        resource, *keys = words or (None,)
        wanted = invalidating.InvalidateWanted(resource, [str(key) for key in keys], everything)
        return await invalidate(self.settings, self.catalog, wanted)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"watcher": WatcherSettings(lease_ms=1000)})  # another takes over soon


@pytest.fixture
def catalog(database: str) -> Catalog:
    return catalog_of(database)


@pytest.fixture
async def world(settings: Settings, catalog: Catalog) -> AsyncIterator[World]:
    async with World.on(settings, catalog) as world:
        await world.insert()
        yield world


async def test_after_a_resync_nothing_is_good_that_was_read_before_it(world: World) -> None:
    async with world.watcher(), world.consumer():
        generation = await world.until_complete()
        deleted_unseen = "nobody"
        filled = await world.fill(*KEYS, deleted_unseen)
        assert await world.good(*KEYS, deleted_unseen) == [*KEYS, deleted_unseen]
        done = await world.resync()
        assert done.walk is not None and done.walk.begun is not None and done.walk.begun >= filled
        assert (done.end, done.walk.passed, done.ok) == ("applied", COUNT, True)
        assert await world.good(*KEYS, deleted_unseen) == []
        assert (await world.until_complete()).id == generation.id  # what is counted is as good as before
        await world.until_right()


async def test_a_resync_goes_on_after_a_kill_while_changes_flow(world: World) -> None:
    writer = Writer(world, seed=2, keys=20)
    async with world.consumer():
        async with world.watcher() as first:
            await world.until_complete()
            resyncing = asyncio.create_task(world.resync(rate=40))
            before = await world.until_passed(30)
            await kill(first)
        touched = touches()
        async with world.watcher():
            for _ in range(30):
                await writer.write()
            filled = await world.fill("k59")  # later than the walk's beginning, and the walk has yet to pass it
            done = await resyncing
            await world.until_right()
        assert done.end == "applied" and done.walk is not None
        assert (done.walk.id, done.walk.begun) == (before.id, before.begun)
        assert filled >= (before.begun or 0) and await world.good("k59") == ["k59"]
        assert touches() - touched < COUNT  # it did not begin again


async def test_a_resync_keeps_to_its_rate(world: World) -> None:
    async with world.watcher(), world.consumer():
        resyncing = asyncio.create_task(world.resync(rate=50))
        before, since = await world.until_passed(1), time.monotonic()
        assert (await resyncing).ok
        assert time.monotonic() - since > 0.8 * (COUNT - before.passed - step_of(50)) / 50


async def test_ctrl_c_stops_a_resync(world: World) -> None:
    async with world.watcher():
        resyncing = asyncio.create_task(world.resync(rate=10))
        await world.until_passed(2)
        os.kill(os.getpid(), signal.SIGINT)
        done = await resyncing
    assert (done.end, done.ok) == ("interrupted", False)
    assert await world.walks.unfinished("resync") == []


async def test_a_second_resync_joins_the_first_and_may_speed_it_up(world: World) -> None:
    async with world.watcher(), world.consumer():
        first = asyncio.create_task(world.resync(rate=1))
        walk = await world.until_passed(1)
        second = await world.resync(rate=10_000)
        assert second.joined and second.walk is not None and second.walk.id == walk.id
        assert {(await first).end, second.end} == {"applied"}


async def test_stopping_what_is_not_under_way_is_said(world: World) -> None:
    done = await world.resync(stop=True)
    assert (done.end, done.ok) == ("nothing", True)


async def test_keys_a_resource_and_everything_are_invalidated(world: World) -> None:
    async with world.watcher(), world.consumer():
        generation = await world.until_complete()
        filled = await world.fill("k00", "k01", "k02")
        done = await world.invalidate(RESOURCE, "k00", "k01")
        assert (done.applied, done.keys, from_hex(done.version) >= filled) == (True, ["k00", "k01"], True)
        assert await world.good("k00", "k01", "k02") == ["k02"]
        assert (await world.invalidate(RESOURCE)).applied
        assert await world.good("k00", "k01", "k02") == []
        await world.fill("k03")
        assert (await world.invalidate(everything=True)).applied
        assert await world.good("k03") == []
        assert (await world.until_complete()).id == generation.id
        await world.until_right()


async def test_pages_that_may_show_an_invalidated_key_are_stale(world: World) -> None:
    async with world.watcher(), world.consumer():
        await world.until_complete()
        await world.fill_pages()
        assert await world.good_pages() == len(world.pages) > 10
        assert (await world.invalidate(RESOURCE, "k00")).applied
        assert await world.good_pages() == 0


async def test_what_no_consumer_applies_is_said(world: World) -> None:
    async with world.watcher():
        await ensure_topic(world.settings.kafka)
        wanted = invalidating.InvalidateWanted(RESOURCE, wait_seconds=0.2)
        done = await invalidate(world.settings, world.catalog, wanted)
    assert (done.applied, done.ok) == (False, False)


def touches() -> float:
    """How many documents were passed by walks in this process."""
    return float(telemetry.TOUCHES.labels(RESOURCE)._value.get())
