"""The rules of the protocol that a consumer keeps all the time, one by one: nothing need fail for them to matter."""

import asyncio
import time
from typing import Any

from tests.faults.rig.sabotage.rules import Patches, replaced, rule

LAG_SECONDS = 0.5


@rule("changes are not applied")
def _not_applied() -> Patches:
    yield _invalidate(keys=(), told=())


@rule("floors are not raised")
def _no_floors() -> Patches:
    yield _invalidate(floors={})


@rule("applied is not raised")
def _applied_stays() -> Patches:
    yield _invalidate(applied=0)


@rule("changes are not announced")
def _not_announced() -> Patches:
    yield replaced("neverstale.redis.corrections:Corrections._announce_changes", lambda *_: [])


@rule("watermarks come before their changes")
def _early_watermarks() -> Patches:
    from neverstale.consumers.apply import Applier

    invalidate = Applier._invalidate

    async def late(self: Applier, batch: Any) -> Any:
        if batch.marks:
            identity = await self._cache.identity()
            partitions = max(mark.partitions for mark in batch.marks.values())
            marks = {partition: (mark.version, mark.wall_ms) for partition, mark in batch.marks.items()}
            await self._cache.set_watermarks(self._section.group, identity, partitions, marks)
            await asyncio.sleep(LAG_SECONDS)
        return await invalidate(self, batch)

    yield replaced("neverstale.consumers.apply:Applier._invalidate", late)


@rule("reads come from half a second ago")
def _lagging_member() -> Patches:
    """Not a control but a fault: a member that lags answers, as far behind as the reader allows."""
    from neverstale.mongodb.loader import Loader
    from neverstale.versions import from_timestamp, to_timestamp

    find, seen = Loader._find, list[tuple[float, int]]()

    async def lagging(self: Loader, collection: str, keys: Any, projection: Any, concern: dict[str, Any]) -> Any:
        old = max((version for at, version in seen if at < time.monotonic() - LAG_SECONDS), default=0)
        least = concern.get("afterClusterTime")
        if old and "atClusterTime" not in concern:
            version = max(old, from_timestamp(least) if least is not None else 0)
            concern = {"level": "snapshot", "atClusterTime": to_timestamp(version)}
        reply, kind = await find(self, collection, keys, projection, concern)
        now = await self.now()
        seen.append((time.monotonic(), now))
        del seen[:-500]
        return reply, kind

    yield replaced("neverstale.mongodb.loader:Loader._find", lagging)


@rule("fills come late")
def _late_fills() -> Patches:
    """Not a control but a fault: between a read of MongoDB and its fill everything may happen."""
    import random

    from neverstale.redis.cache import Cache

    fill, dice = Cache.fill, random.Random(1)

    async def late(self: Cache, fills: Any) -> Any:
        await asyncio.sleep(dice.uniform(0, LAG_SECONDS))
        return await fill(self, fills)

    yield replaced("neverstale.redis.cache:Cache.fill", late)


def _invalidate(**changed: Any) -> Any:
    """`Corrections.invalidate` with some of its arguments replaced."""
    from neverstale.redis.corrections import Corrections

    invalidate = Corrections.invalidate

    async def spoilt(self: Any, applied: int, keys: Any, told: Any, floors: Any, *rest: Any, **named: Any) -> Any:
        given = {"applied": applied, "keys": keys, "told": told, "floors": floors} | changed
        if changed.get("floors") is not None:
            given["floors"] = dict.fromkeys(floors, 0)
        return await invalidate(self, *given.values(), *rest, **named)

    return replaced("neverstale.redis.corrections:Corrections.invalidate", spoilt)


@rule("a partition vouches for its own documents")
def _one_watermark_for_all() -> Patches:
    """All documents are of one cell, which is as old as the partition that is furthest behind."""
    yield replaced("neverstale.settings.redis:RedisSettings.layout", "one")
