"""How the API reads Redis, by how keys are laid out there (`neverstale.redis.cells`): one cell, or many."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random

from redis.asyncio import Redis

from neverstale.api.cells.all import AllCells
from neverstale.api.cells.freshness import CellsFreshness
from neverstale.api.cells.readers import CellFigures, CellReaders
from neverstale.api.cells.shares import SharedFeeds, SharedL1
from neverstale.api.cells.together import Together
from neverstale.api.derived.figures import Figures
from neverstale.api.derived.generations import Known, keep_known
from neverstale.api.derived.sources import Sources, known_of
from neverstale.api.freshness.groups import GroupedFreshness, task_of
from neverstale.api.freshness.redis_identity import reconnection, tell_identity
from neverstale.api.freshness.watermark import Freshness
from neverstale.api.hits.channel import Channel
from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.l1 import L1
from neverstale.api.reads.read_counts import ReadCounts
from neverstale.api.reads.reader import Reader
from neverstale.api.surroundings import ReadSurroundings
from neverstale.keys import Names
from neverstale.redis.cache import Cache
from neverstale.redis.most_read import Popularity
from neverstale.redis.nodes import nodes_of
from neverstale.redis.wire import Wire
from neverstale.role.supervised import Supervised
from neverstale.servers import redis_client
from neverstale.watcher_groups import WatcherGroup, watcher_groups


@dataclass(frozen=True, slots=True)
class Readers:
    """All that reads Redis."""

    commands: Cache
    """For what lies in no cell."""
    hits: Cache
    freshness: GroupedFreshness
    known: Mapping[str, Known]
    sources: Sources
    reader: Reader
    figures: Figures
    l1: L1
    channel: Channel | None
    breaker: Breaker
    """Of what lies in no cell."""
    popularity: Popularity
    read_counts: ReadCounts
    keep: Callable[[Supervised], None]
    """Begins what keeps all this current."""
    close: Callable[[], Awaitable[None]]


def read_one_cell(ours: ReadSurroundings) -> Readers:
    """All is one cell."""
    settings, catalog, api = ours.settings, ours.catalog, ours.settings.api
    redis = redis_client(settings.redis, timeout_ms=settings.redis.read_timeout_ms)
    names = Names(settings.redis.prefix)
    cache = Cache(redis, names, damage=ours.damage)
    looks = Wire(redis)
    watermarks = Cache(redis, names, round_trip=looks.exchange, damage=ours.damage)
    reconnect = reconnection(redis, looks)
    groups = watcher_groups(settings, catalog)
    freshness = GroupedFreshness(
        catalog,
        {
            one.name: Freshness(
                watermarks, one.settings.kafka.group, ours.marks, ours.health, reconnect, one.catalog, one.name
            )
            for one in groups
        },
        ours.marks,
    )
    tell_identity(redis, freshness.opened)
    # Two, since fills of a megabyte are under way for a while, and hits must not wait for them.
    vouched = [Wire(redis, lambda identity: identity == freshness.identity) for _ in ("hits", "fills")]
    hits, fills = (Cache(redis, names, round_trip=wire.exchange, damage=ours.damage) for wire in vouched)
    l1 = L1(api.l1_bytes, least_ttl(ours), groups=catalog.groups)
    known = known_of(catalog, watermarks, lambda: freshness.identity)
    popularity = Popularity(cache, api.reads_half_life_seconds)
    read_counts = ReadCounts(names, popularity)
    sources = Sources.of(catalog, hits, known, read_counts, ours.secret)
    breaker = ours.breaker()
    reader = Reader(fills, ours.loads, freshness, breaker, api, ours.tasks, Random(), l1, sources)
    channel, channel_redis = _channel(ours, names, l1, freshness, sources)

    def keep(beside: Supervised) -> None:
        _keep_watermarks(beside, api.freshness_interval_ms, groups, freshness)
        if known:
            beside.keep("generations", partial(keep_known, list(known.values())))
        if channel is not None:
            beside.keep("channel", channel.listen)

    async def close() -> None:
        for wire in (looks, *vouched):
            wire.close()
        await channel_redis.aclose()
        await redis.aclose()

    return Readers(
        cache,
        hits,
        freshness,
        known,
        sources,
        reader,
        ours.figures(cache, freshness, breaker),
        l1,
        channel,
        breaker,
        popularity,
        read_counts,
        keep,
        close,
    )


def _keep_watermarks(
    beside: Supervised, interval_ms: int, groups: Iterable[WatcherGroup], freshness: GroupedFreshness
) -> None:
    for one in groups:
        keep = freshness.groups[one.name].keep_watermark
        beside.keep(task_of(one.name), partial(keep, interval_ms, one.catalog.resources))


def _channel(
    ours: ReadSurroundings, names: Names, l1: L1, freshness: GroupedFreshness, sources: Sources
) -> tuple[Channel | None, Redis]:
    settings, api = ours.settings, ours.settings.api
    redis = redis_client(settings.redis, timeout_ms=settings.redis.read_timeout_ms)
    if not (api.l1_bytes or settings.live.streams):
        return None, redis
    silence = api.channel_silence_ms / 1000
    return Channel(redis, names, l1, freshness, silence, ours.damage, sources.documents, ours.feeds), redis


def read_cells(ours: ReadSurroundings) -> Readers:
    """Documents by partition, what is derived by resource."""
    settings, api = ours.settings, ours.settings.api
    names = Names(settings.redis.prefix)
    nodes = nodes_of(settings.redis, timeout_ms=settings.redis.read_timeout_ms)
    commands = Cache(None, names, round_trip=nodes.send, damage=ours.damage)
    popularity = Popularity(commands, api.reads_half_life_seconds)
    read_counts = ReadCounts(names, popularity)
    l1 = SharedL1(api.l1_bytes, least_ttl(ours))
    watched = watcher_groups(settings, ours.catalog)
    readers: dict[bytes, Reader] = {}
    together = Together(nodes, ours.tasks)
    groups = [
        AllCells(ours, nodes, one, commands, read_counts, l1, SharedFeeds(ours.feeds, one.name), readers, together)
        for one in watched
    ]
    freshness = GroupedFreshness(
        ours.catalog,
        {one.group: CellsFreshness(ours.marks, ours.health, one.freshness, one.group) for one in groups},
        ours.marks,
    )
    sources = Sources(
        {name: one for group in groups for name, one in group.sources.documents.items()},
        {name: one for group in groups for name, one in group.sources.grouped.items()},
    )
    known = {name: one for group in groups for name, one in group.known.items()}

    breaker = ours.breaker()
    reader = CellReaders(
        commands, ours.loads, freshness, breaker, api, ours.tasks, Random(), l1, sources, reader_of=readers.get
    )

    def keep(beside: Supervised) -> None:
        for group in groups:
            beside.keep(f"cells of {group.group}", group.keep)
            beside.keep(f"partitions of {group.group}", group.count.keep)
        _keep_watermarks(beside, api.freshness_interval_ms, watched, freshness)
        for name, one in known.items():
            beside.keep(f"generations of {name}", partial(keep_known, [one]))

    return Readers(
        commands,
        commands,
        freshness,
        known,
        sources,
        reader,
        CellFigures({name: one for group in groups for name, one in group.figures.items()}),
        l1,
        None,
        breaker,
        popularity,
        read_counts,
        keep,
        nodes.aclose,
    )


def least_ttl(ours: ReadSurroundings) -> float:
    """Nothing stays in memory longer than anything may."""
    return min(resource.ttl_seconds for resource in ours.catalog.resources.values())
