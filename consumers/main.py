"""The consumer as a role: it wires, and lives until it is asked to stop."""

import gc
from functools import partial
from typing import Any, Final

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from neverstale.catalog import Catalog
from neverstale.consumers.apply import Applier, Section, Steps
from neverstale.consumers.coverage import Coverages
from neverstale.consumers.dead_letters import DeadLetters
from neverstale.consumers.derived.derive import Deriver, ResourceDeriver
from neverstale.consumers.derived.rebuild import Rebuilder
from neverstale.consumers.group.member import Consumed
from neverstale.consumers.loop import ConsumerLoop
from neverstale.consumers.most_read import Favourites
from neverstale.consumers.records.batch import Folding
from neverstale.consumers.records.doubts import Doubts
from neverstale.consumers.records.horizon import Horizon
from neverstale.consumers.records.terms import LeaseDocuments, Terms
from neverstale.consumers.refresh import Refresher
from neverstale.consumers.registers import Registers
from neverstale.consumers.replay import Accounts
from neverstale.consumers.topic_identity import TopicIdentity
from neverstale.derived.store import DerivedStore
from neverstale.errors import Outage, Retry
from neverstale.keys import Names
from neverstale.mongodb.kinds import Kinds
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.walks import Walks
from neverstale.redis.announcements import Announcer
from neverstale.redis.commands import Commands
from neverstale.redis.corrections import Corrections
from neverstale.redis.most_read import Popularity
from neverstale.redis.wire import Wire
from neverstale.role.damage import Damage
from neverstale.role.renewal import Renewal
from neverstale.role.retry import Unwanted, Wanted, until_done
from neverstale.role.service import Life, run_role, show_card
from neverstale.role.supervised import Supervised
from neverstale.servers import mongo_client, redis_client
from neverstale.settings import Settings

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
    announcer, damage = Announcer(), Damage(horizon.latest, life.health)
    cache = Corrections(redis, names, announcer, round_trip=wire.exchange, damage=damage)
    walks = Walks(mongo, catalog.database, settings.kafka)
    registers = Registers(cache, catalog.collections, loader.now, life.health)
    refresher = Refresher(cache, loader, settings.consumer)
    derived = [resource for resource in catalog.resources.values() if resource.derived]
    stores = {name: DerivedStore(cache, name, announcer) for name in catalog.resources}
    deriver = Deriver([ResourceDeriver(one, stores[one.name], loader) for one in derived])
    rebuilders = [Rebuilder(one, stores[one.name], loader, walks, cache.identity) for one in derived]
    favourites = Favourites()
    folding = Folding(catalog, names, horizon.latest, favourites, office=0)
    letters = DeadLetters(settings, life.health)
    accounts = Accounts(cache, settings.kafka.group, catalog.collections, life.health)
    steps = Steps(
        Doubts(folding, horizon, Terms(folding, LeaseDocuments(mongo, catalog.database))),
        TopicIdentity(cache, settings.kafka.group, catalog.collections, life.health),
        Coverages(cache, settings.kafka.group, catalog),
        registers,
        deriver.apply,
        accounts,
        refresher,
        letters,
    )
    section = Section(settings.kafka.group, catalog.collections, settings.consumer.lease_ms)
    applier = Applier(cache, steps, section, life.health)
    ours = settings.consumer
    consumed = Consumed(
        settings.kafka, ours.max_batch, ours.replay_seconds, folding, accounts, applier.apply, life.instance
    )
    consumer = ConsumerLoop(settings, consumed, life)
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
