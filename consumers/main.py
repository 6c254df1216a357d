"""The consumer as a role: it wires, and lives until it is asked to stop."""

import asyncio
import gc
from functools import partial
from typing import Final

from neverstale.catalog import Catalog
from neverstale.consumers.pipeline import consume
from neverstale.keys import Names
from neverstale.redis.nodes import nodes_of
from neverstale.role.renewal import Renewal
from neverstale.role.service import Life, run_role, show_card
from neverstale.role.supervised import Supervised
from neverstale.servers import mongo_client
from neverstale.settings import Settings
from neverstale.watcher_groups import consumed_groups

COLLECT_AFTER: Final = 300_000
"""Objects. A batch of records makes thousands, none of them in cycles: looking through them often finds nothing."""


def run(settings: Settings, catalog: Catalog, renewal: Renewal | None = None) -> int:
    """Be a consumer until SIGTERM or SIGINT; returns the exit code, see `neverstale.role.service.run_role`."""
    gc.collect()
    gc.freeze()  # what is here by now stays, and no collection need look at it again
    gc.set_threshold(COLLECT_AFTER)
    return run_role("consumer", settings, partial(live, settings, catalog), renewal=renewal)


async def live(settings: Settings, catalog: Catalog, life: Life) -> None:
    """Consume until `life.stop`."""
    groups = consumed_groups(settings, catalog)
    names = [one.name for one in groups]
    mongo = mongo_client(settings.mongodb)
    redis = nodes_of(settings.redis, timeout_ms=settings.redis.write_timeout_ms)
    try:
        async with Supervised(life.health) as beside, asyncio.TaskGroup() as together:
            beside.keep("card", partial(show_card, life, redis.send, Names(settings.redis.prefix), groups=names))
            for one in groups:
                # Not by `start`: what fails within it says itself which task it was.
                together.create_task(consume(one, catalog, life, mongo), name=f"consume-{one.name}")
    finally:
        await mongo.close()
        await redis.aclose()
