"""`neverstale run watcher`: wires settings, clients and the watcher."""

import gc

from neverstale.catalog import Catalog
from neverstale.clients import mongo_client
from neverstale.service import Life, run_role
from neverstale.settings import Settings
from streams.translate import Watched
from streams.watcher import Watcher

GARBAGE_THRESHOLD = 50_000
"""Decoded events are many objects and no cycles; looking for cycles in every batch is a waste."""


def run(settings: Settings, catalog: Catalog) -> int:
    """Watch until SIGTERM; the exit code."""

    async def body(life: Life) -> None:
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD)
        async with mongo_client(settings.mongodb) as client:
            database = client.get_database(catalog.database)
            watched = Watched(catalog.database, catalog.collections)
            await Watcher(settings, watched, database, life.health).run(life.stop)

    return run_role("watcher", settings, body)
