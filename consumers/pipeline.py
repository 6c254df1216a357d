"""One watcher group's changes, applied: everything from its topic to what its resources have in Redis.

A consumer has one of these for each group that it consumes, and they share nothing but the servers: a group that
stands still, rebalances or is applied again holds up no other, and its watermarks are its own.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from pymongo import AsyncMongoClient
from redis.asyncio import Redis

from neverstale.catalog import Catalog
from neverstale.consumers.apply import Applier, Section, Steps
from neverstale.consumers.coverage import Coverages
from neverstale.consumers.dead_letters import DeadLetters
from neverstale.consumers.derived.derive import Deriver, ResourceDeriver
from neverstale.consumers.derived.moved import keep_forgetting
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
from neverstale.role.retry import Unwanted, Wanted, until_done
from neverstale.role.service import Life
from neverstale.role.supervised import Supervised
from neverstale.servers import redis_client
from neverstale.watcher_groups import WatcherGroup


async def consume(of: WatcherGroup, whole: Catalog, life: Life, mongo: AsyncMongoClient[dict[str, Any]]) -> None:
    """Apply the changes of one group until `life.stop`. `whole`: the catalog with all groups."""
    redis = redis_client(of.settings.redis, timeout_ms=of.settings.redis.write_timeout_ms)
    wire = Wire(redis)
    try:
        await _consume(of, whole, replace(life, health=life.health.of(of.name)), mongo, redis, wire)
    finally:
        wire.close()
        await redis.aclose()


async def _consume(
    of: WatcherGroup,
    whole: Catalog,
    life: Life,
    mongo: AsyncMongoClient[dict[str, Any]],
    redis: Redis,
    wire: Wire,
) -> None:
    settings, catalog = of.settings, of.catalog
    names = Names(settings.redis.prefix)
    kinds = Kinds(mongo[catalog.database], settings.mongodb.read_timeout_ms)
    loader = Loader(mongo, catalog.database, settings.mongodb.read_timeout_ms, kinds)
    horizon = Horizon(loader.now, settings.consumer.version_tolerance_seconds)
    announcer, damage = Announcer(group=of.name), Damage(horizon.latest, life.health)
    cache = Corrections(redis, names, announcer, round_trip=wire.exchange, damage=damage)
    walks = Walks(mongo, catalog.database, settings.kafka)
    registers = Registers(cache, catalog.collections, loader.now, life.health)
    refresher = Refresher(cache, loader, settings.consumer)
    derived = [resource for resource in catalog.resources.values() if resource.derived]
    stores = {one.name: DerivedStore(cache, one.derived_name, announcer) for one in catalog.resources.values()}
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
        *(settings.kafka, ours.max_batch, ours.replay_seconds, folding, accounts, applier.apply),
        url=life.url,
        instance=life.instance,
        watcher_group=of.name,
    )
    consumer = ConsumerLoop(settings, consumed, life)
    async with letters, Supervised(life.health) as beside:
        if await _begin(cache, life):
            beside.keep("registers", registers.keep_known)
            beside.keep("horizon", horizon.keep)
            beside.keep("refresh", refresher.work)
            beside.keep("kinds", partial(kinds.keep, catalog))
            popularity = Popularity(cache, settings.api.reads_half_life_seconds)
            beside.keep("favourites", partial(favourites.keep, catalog, names, popularity))

            if len(whole.groups) > 1:
                beside.keep("moved", partial(keep_forgetting, cache, whole, of.name))
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
