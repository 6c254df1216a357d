"""The consumer as a role: it wires, and lives until it is asked to stop."""

import asyncio
import gc
from functools import partial
from typing import Any, Final

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from consumers.apply import Applier, Section
from consumers.dead_letters import DeadLetters
from consumers.derived.derive import Deriver, ResourceDeriver
from consumers.derived.rebuild import Rebuilder
from consumers.loop import ConsumerLoop
from consumers.most_read import Favourites
from consumers.quarantine import Quarantine
from consumers.records.batch import Folding
from consumers.records.horizon import Horizon
from consumers.records.terms import LeaseDocuments, Terms
from consumers.refresh import Refresher
from consumers.registers import Registers
from consumers.replay import Replay
from consumers.topic_identity import Incarnations
from neverstale.catalog import Catalog
from neverstale.derived.store import DerivedStore
from neverstale.errors import Outage
from neverstale.keys import Names
from neverstale.mongodb.kinds import Kinds
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.walks import Walks
from neverstale.redis.announcements import Announcer
from neverstale.redis.cache import Cache
from neverstale.redis.most_read import Popularity
from neverstale.redis.wire import Wire
from neverstale.role.damage import Damage
from neverstale.role.retry import pauses
from neverstale.role.service import Life, run_role, show_card
from neverstale.role.supervised import Supervised
from neverstale.servers import mongo_client, redis_client
from neverstale.settings import Settings

COLLECT_AFTER: Final = 300_000
"""Objects. A batch of records makes thousands, none of them in cycles: looking through them often finds nothing."""


def run(settings: Settings, catalog: Catalog) -> int:
    """Be a consumer until SIGTERM or SIGINT; answers the exit code, see `neverstale.role.service.run_role`."""
    gc.collect()
    gc.freeze()  # what is here by now stays, and no collection need look at it again
    gc.set_threshold(COLLECT_AFTER)
    return run_role("consumer", settings, partial(live, settings, catalog))


async def live(settings: Settings, catalog: Catalog, life: Life) -> None:
    """Consume until `life.stop`."""
    redis = redis_client(settings.redis, timeout_ms=settings.redis.write_timeout_ms)
    wire = Wire(redis)
    mongo = mongo_client(settings.mongodb)
    try:
        await _live(settings, catalog, life, redis, wire, mongo)
    finally:
        wire.close()
        await mongo.close()
        await redis.aclose()


async def _live(
    settings: Settings,
    catalog: Catalog,
    life: Life,
    redis: Redis,
    wire: Wire,
    mongo: AsyncMongoClient[dict[str, Any]],
) -> None:
    names = Names(settings.redis.prefix)
    kinds = Kinds(mongo[catalog.database], settings.mongodb.read_timeout_ms)
    loader = Loader(mongo, catalog.database, settings.mongodb.read_timeout_ms, kinds)
    horizon = Horizon(loader.now, settings.consumer.version_tolerance_seconds)
    cache = Cache(redis, names, Announcer(), wire.exchange, Damage(horizon.latest, life.health))
    walks = Walks(mongo, catalog.database, settings.kafka)
    registers = Registers(cache, catalog.collections, loader.now, life.health)
    replay = Replay(cache, settings.kafka.group, catalog.collections, life.health)
    refresher = Refresher(cache, loader, settings.consumer)
    section = Section(settings.kafka.group, catalog.collections, settings.consumer.lease_ms)
    derived = [resource for resource in catalog.resources.values() if resource.derived]
    stores = {resource.name: DerivedStore(cache, resource.name) for resource in catalog.resources.values()}
    deriver = Deriver([ResourceDeriver(one, stores[one.name], loader) for one in derived], life.health)
    rebuilders = [Rebuilder(one, stores[one.name], loader, walks, cache.identity) for one in derived]
    applier = Applier(cache, registers, replay, refresher, section, life.health, derive=deriver.apply)
    favourites = Favourites()
    folding = Folding(catalog, names, horizon.latest, favourites, office=0)
    terms, letters = Terms(folding, LeaseDocuments(mongo, catalog.database)), DeadLetters(settings, life.health)
    incarnations = Incarnations(cache, settings.kafka.group, catalog.collections, applier.apply, life.health)
    quarantine = Quarantine(folding, horizon, incarnations.apply, letters, terms)
    consumer = ConsumerLoop(settings, folding, replay, quarantine.apply, life)
    async with letters, Supervised(life.health) as beside:
        beside.keep("card", partial(show_card, life, redis, names))
        if await _begin(cache, life):
            beside.keep("registers", registers.keep_known)
            beside.keep("horizon", horizon.keep)
            beside.keep("refresh", refresher.work)
            beside.keep("kinds", partial(kinds.keep, catalog))
            popularity = Popularity(cache, settings.api.reads_half_life_seconds)
            beside.keep("favourites", partial(favourites.keep, catalog, names, popularity))
            for rebuilder in rebuilders:
                beside.keep(f"rebuild-{rebuilder.resource.name}", rebuilder.keep)
            await consumer.run()


async def _begin(cache: Cache, life: Life) -> bool:
    """Wait for Redis, however long it takes. False: the role should stop before that."""
    for pause in pauses():
        try:
            await cache.ping()
            life.health.ok("redis")
            return True
        except Outage as outage:
            life.health.wrong("redis", outage.reason)
        if life.stop.is_set():
            return False
        await asyncio.sleep(pause)
    raise AssertionError("pauses never end")
