"""What was derived here of resources that have moved to another watcher group: nobody reads it any more, nor writes.

Derived data carry the name of their group (`Resource.derived_name`), since the owners of two topics' partitions must
never write the same. So they begin anew where a resource has moved to, and are freed where it was.
"""

import contextlib
from collections.abc import Iterator
from typing import Final, NoReturn

from neverstale.catalog import Catalog
from neverstale.catalog.resource import derived_name
from neverstale.derived.generations import UnknownFormat
from neverstale.derived.store import DerivedStore
from neverstale.errors import Outage
from neverstale.redis.commands import Commands
from neverstale.role import telemetry
from neverstale.role.retry import forever

LOOK_SECONDS: Final = 30.0
"""Consumers that still run with the catalog of before may begin it again."""

log = telemetry.logger(__name__)


async def keep_forgetting(redis: Commands, whole: Catalog, group: str) -> NoReturn:
    """Free it again and again, until cancelled."""

    async def look() -> float:
        with contextlib.suppress(Outage):  # it costs memory, and nothing else
            await forget_what_moved(redis, whole, group)
        return LOOK_SECONDS

    await forever(look)


async def forget_what_moved(redis: Commands, whole: Catalog, group: str) -> None:
    """Free what a group derived of resources that are in another one by now. Raises `Outage`."""
    for name in _elsewhere(whole, group):
        store = DerivedStore(redis, derived_name(name, group))
        if await _is_there(store):
            log.info("derived_data_moved", resource=name, from_group=group, reason="another group watches it now")
            await store.forget()


def _elsewhere(whole: Catalog, group: str) -> Iterator[str]:
    return (one.name for one in whole.resources.values() if one.derived and one.watcher_group != group)


async def _is_there(store: DerivedStore) -> bool:
    try:
        return bool((await store.generations()).all)
    except UnknownFormat:
        return True
