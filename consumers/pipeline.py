"""One watcher group's changes, applied: everything from its topic to what its resources have in Redis.

A consumer has one of these for each group that it consumes, and they share nothing but the servers: a group that
stands still, rebalances or is applied again holds up no other, and its watermarks are its own.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from pymongo import AsyncMongoClient

from neverstale.catalog import Catalog
from neverstale.consumers.dead_letters import DeadLetters
from neverstale.consumers.derived.moved import keep_forgetting
from neverstale.consumers.derived.rebuild import Rebuilder
from neverstale.consumers.group.member import Consumed
from neverstale.consumers.layouts import Surroundings, in_cells, in_one_cell
from neverstale.consumers.loop import ConsumerLoop
from neverstale.consumers.most_read import Favourites
from neverstale.consumers.records.batch import Folding
from neverstale.consumers.records.doubts import Doubts
from neverstale.consumers.records.horizon import Horizon
from neverstale.consumers.records.terms import LeaseDocuments, Terms
from neverstale.errors import Outage, Retry
from neverstale.keys import Names
from neverstale.mongodb.kinds import Kinds
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.walks import Walks
from neverstale.redis.commands import Commands
from neverstale.redis.most_read import Popularity
from neverstale.redis.nodes import Nodes, nodes_of
from neverstale.role.damage import Damage
from neverstale.role.retry import Unwanted, Wanted, until_done
from neverstale.role.service import Life
from neverstale.role.supervised import Supervised
from neverstale.watcher_groups import WatcherGroup


async def consume(of: WatcherGroup, whole: Catalog, life: Life, mongo: AsyncMongoClient[dict[str, Any]]) -> None:
    """Apply the changes of one group until `life.stop`. `whole`: the catalog with all groups."""
    nodes = nodes_of(of.settings.redis, timeout_ms=of.settings.redis.write_timeout_ms)
    try:
        await _consume(of, whole, replace(life, health=life.health.of(of.name)), mongo, nodes)
    finally:
        await nodes.aclose()


async def _consume(
    of: WatcherGroup, whole: Catalog, life: Life, mongo: AsyncMongoClient[dict[str, Any]], nodes: Nodes
) -> None:
    settings, catalog = of.settings, of.catalog
    names = Names(settings.redis.prefix)
    kinds = Kinds(mongo[catalog.database], settings.mongodb.read_timeout_ms)
    loader = Loader(mongo, catalog.database, settings.mongodb.read_timeout_ms, kinds)
    horizon = Horizon(loader.now, settings.consumer.version_tolerance_seconds)
    walks = Walks(mongo, catalog.database, settings.kafka)
    apart = settings.redis.layout == "partition"
    favourites = Favourites()
    folding = Folding(catalog, names, horizon.latest, favourites, office=0, apart=apart)
    doubts = Doubts(folding, horizon, Terms(folding, LeaseDocuments(mongo, catalog.database)))
    letters = DeadLetters(settings, life.health)
    damage = Damage(horizon.latest, life.health)
    written = (in_cells if apart else in_one_cell)(
        Surroundings(of, life.health, nodes, names, damage, loader, doubts, letters)
    )
    derived = [resource for resource in catalog.resources.values() if resource.derived]
    rebuilders = [Rebuilder(one, store := written.stores[one.name], loader, walks, store.identity) for one in derived]
    ours = settings.consumer
    consumed = Consumed(
        *(settings.kafka, ours.max_batch, ours.replay_seconds, folding, written.accounts, written.apply),
        url=life.url,
        instance=life.instance,
        watcher_group=of.name,
    )
    consumer = ConsumerLoop(settings, consumed, life)
    async with letters, Supervised(life.health) as beside:
        if await _begin(written.commands, life):
            beside.keep("registers", written.keep_registers)
            beside.keep("horizon", horizon.keep)
            beside.keep("refresh", written.refresher.work)
            beside.keep("kinds", partial(kinds.keep, catalog))
            popularity = Popularity(written.commands, settings.api.reads_half_life_seconds)
            beside.keep("favourites", partial(favourites.keep, catalog, names, popularity))

            if len(whole.groups) > 1 and not apart:
                beside.keep("moved", partial(keep_forgetting, written.commands, whole, of.name))
            for rebuilder in rebuilders:
                beside.keep(f"rebuild-{rebuilder.resource.name}", rebuilder.keep)
            await consumer.run()


async def _begin(redis: Commands, life: Life) -> bool:
    """Wait for Redis, however long it takes. False: the role should stop before that."""
    try:
        await until_done(redis.ping, Wanted(life.stop), partial(_away, life))
    except Unwanted:
        return False
    life.health.ok("redis")
    return True


def _away(life: Life, error: Retry) -> None:
    life.health.wrong("redis", error.reason if isinstance(error, Outage) else str(error))
