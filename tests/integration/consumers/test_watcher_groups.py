"""Watcher groups, on real servers: each resource comes through its own, and so does what operators ask for."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import neverstale.consumers.main
import neverstale.streams.main
from neverstale.catalog import Catalog
from neverstale.ops.repair.drift import drift
from neverstale.ops.repair.invalidate import InvalidateWanted, invalidate
from neverstale.ops.repair.rebuild import rebuild
from neverstale.ops.repair.resync import ResyncWanted, resync
from neverstale.ops.status import Status, gather
from neverstale.settings import Settings, WatcherSettings
from tests.support.waiting import eventually
from tests.worlds.deriving import RESOURCE, Deriving, Writer, catalog_of, running

COUNT = 50
GROUP = "board"


def catalog(database: str, **groups: list[str]) -> Catalog:
    declared = catalog_of(database, {"orders": {"key_type": "string"}})
    watchers = {name: {"collections": collections} for name, collections in groups.items()}
    return Catalog.model_validate(declared.model_dump(by_alias=True, exclude_unset=True) | {"watchers": watchers})


@asynccontextmanager
async def roles(settings: Settings, catalog: Catalog) -> AsyncIterator[None]:
    """A watcher for each group, and one consumer of all."""
    async with AsyncExitStack() as stack:
        for group in catalog.groups:
            watcher = settings.watcher.model_copy(update={"watches": group})
            of = settings.model_copy(update={"watcher": watcher})
            await stack.enter_async_context(running(neverstale.streams.main.live, of, catalog))
        await stack.enter_async_context(running(neverstale.consumers.main.live, settings, catalog))
        yield


async def test_what_moves_to_another_group_is_built_there_and_freed_where_it_was(
    settings: Settings, database: str
) -> None:
    settings = settings.model_copy(update={"watcher": WatcherSettings(lease_ms=1000)})
    before, after = catalog(database), catalog(database, board=[RESOURCE])
    async with Deriving.on(settings, before) as old, Deriving.on(settings, after) as new:
        writer = Writer(old, seed=1)
        await old.documents.insert_many([writer.document(f"k{number}") for number in range(COUNT)])
        async with roles(settings, before):
            await old.until_complete()
        for _ in range(COUNT):
            await writer.write()  # nobody of the old group will ever apply this
        async with roles(settings, after):
            await new.until_complete()
            await new.until_right()
            await eventually(lambda: _is_free(old), "what the old group derived is freed", 40)
            await _operators_reach_it(settings, after, new)


async def _is_free(deriving: Deriving) -> bool:
    return not (await deriving.store.generations()).all


async def _operators_reach_it(settings: Settings, after: Catalog, new: Deriving) -> None:
    built = await rebuild(settings, after, RESOURCE, None, quiet=True)
    walked = await resync(settings, after, ResyncWanted(RESOURCE), quiet=True)
    stale = await invalidate(settings, after, InvalidateWanted(None, everything=True))
    assert (built.end, walked.end, stale.applied) == ("complete", "applied", True)
    assert (await drift(settings, after, RESOURCE, None)).ok
    statuses: list[Status] = []

    async def all_are_known() -> bool:
        statuses[:] = [await gather(settings, after)]
        return all(one.watermark is not None for one in statuses[0].partitions)

    await eventually(all_are_known, "all partitions of all groups have watermarks", 20)
    (status,) = statuses
    assert {one.group for one in status.partitions} == {"default", GROUP}
    assert [one for one in status.problems if "group" in one] == []
