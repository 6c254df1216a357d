"""`neverstale run watcher`: wires settings, clients and the watcher."""

import gc
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Final

from neverstale.catalog import Catalog
from neverstale.keys import Names
from neverstale.mongodb.apply_ops import ApplyOpsGap
from neverstale.mongodb.kinds import Kinds
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.oplog import keep_headroom
from neverstale.redis.nodes import nodes_of
from neverstale.role.renewal import Renewal
from neverstale.role.service import Life, run_role, show_card
from neverstale.role.supervised import Supervised
from neverstale.servers import mongo_client
from neverstale.settings import Settings
from neverstale.streams.translate import Watched
from neverstale.streams.walk import Walker
from neverstale.streams.watcher import Watcher
from neverstale.watcher_groups import watched_group

GARBAGE_THRESHOLD: Final = 50_000


def run(settings: Settings, catalog: Catalog, renewal: Renewal | None = None) -> int:
    """Be the watcher until SIGTERM or SIGINT; returns the exit code, see `neverstale.role.service.run_role`."""
    return run_role("watcher", settings, partial(live, settings, catalog), renewal=renewal)


async def live(settings: Settings, catalog: Catalog, life: Life) -> None:
    """Watch the collections of one watcher group until `life.stop`."""
    of = watched_group(settings, catalog)
    settings, catalog = of.settings, of.catalog
    tune_garbage_collection()
    watched = Watched.of(catalog)
    async with AsyncExitStack() as stack:
        mongo = await stack.enter_async_context(mongo_client(settings.mongodb))
        # The watcher itself needs no Redis; its card is for `neverstale status`.
        redis = nodes_of(settings.redis, timeout_ms=settings.redis.write_timeout_ms)
        await stack.enter_async_context(aclosing(redis))
        watcher = Watcher(settings, watched, mongo.get_database(catalog.database), life.health)
        kinds = Kinds(mongo[catalog.database], settings.mongodb.read_timeout_ms)
        loader = Loader(mongo, catalog.database, settings.mongodb.read_timeout_ms, kinds)
        walker = Walker(
            mongo, catalog.database, watched.collections, loader, settings.kafka, lambda: watcher.lease.term > 0
        )
        async with Supervised(life.health) as beside:
            card = partial(show_card, life, redis.send, Names(settings.redis.prefix), groups=(of.name,))
            beside.keep("card", card)
            beside.keep("walk", walker.run)
            beside.keep("kinds", partial(kinds.keep, catalog))
            beside.keep("headroom", partial(keep_headroom, mongo, lambda: watcher.position))
            beside.keep("apply-ops", ApplyOpsGap(mongo, life.health).keep)
            await watcher.run(life.stop)


def tune_garbage_collection() -> None:
    """Decoded events are many objects without a cycle; looking for cycles in every batch is a waste."""
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)
