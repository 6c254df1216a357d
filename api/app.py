"""The ASGI application: clients are made when it starts, in its event loop, and closed when it ends."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from functools import partial
from random import Random
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig

from neverstale import __version__
from neverstale.api.callers.middleware import Decided
from neverstale.api.callers.opening import gate_of
from neverstale.api.derived.sources import Sources
from neverstale.api.endpoints import openapi
from neverstale.api.endpoints.asgi_route import described
from neverstale.api.endpoints.export import Exports
from neverstale.api.endpoints.openapi_views import with_references
from neverstale.api.endpoints.routes import add_routes
from neverstale.api.freshness.bound import Bounds
from neverstale.api.freshness.groups import GroupedFreshness
from neverstale.api.freshness.proofs import PATIENCE_SECONDS, Proofs
from neverstale.api.freshness.watermark import keep_clock
from neverstale.api.health import ReadHealth, health
from neverstale.api.hits.counted import Counted
from neverstale.api.hits.fast_path import Hot
from neverstale.api.hits.middleware import HotPath
from neverstale.api.hits.request_lines import RequestLines
from neverstale.api.layouts import read_cells, read_one_cell
from neverstale.api.limits.buckets import Buckets
from neverstale.api.limits.middleware import Limited
from neverstale.api.live.endpoint import LiveReads
from neverstale.api.live.feeds import Feeds
from neverstale.api.live.places import StreamPlaces
from neverstale.api.operators.port import serving_inside
from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.bulkhead import Loads
from neverstale.api.reads.refused_sources import Refusing
from neverstale.api.server.heard import Heard
from neverstale.api.server.sampled import Sampling
from neverstale.api.state import STATE, State
from neverstale.api.surroundings import ReadSurroundings
from neverstale.api.warm import KeepWarm, Warmer
from neverstale.api.web import problems
from neverstale.api.web.compression import Compressed
from neverstale.api.web.paths import UndecodedPaths
from neverstale.api.web.shared_caches import SharedCaches
from neverstale.api.web.unread import Unread
from neverstale.catalog import Catalog, Resource
from neverstale.mongodb.apply_ops import ApplyOpsGap
from neverstale.mongodb.kinds import Kinds
from neverstale.mongodb.loader import Loader
from neverstale.mongodb.primary_clock import PrimaryClock
from neverstale.role import telemetry, traces
from neverstale.role.damage import Damage
from neverstale.role.renewal import CatalogFile
from neverstale.role.service import Life, service_url, show_card
from neverstale.role.supervised import Supervised
from neverstale.role.tasks import Tasks
from neverstale.servers import mongo_client
from neverstale.settings import Settings

DESCRIPTION = """Documents of MongoDB, from a cache that knows how fresh it is.

Every answer says how old it can be at most (`Neverstale-Bound`) and at which version it was read
(`Neverstale-Version`). A request can demand more: `Cache-Control: max-age=1`, or `Neverstale-Min-Version` with the
version of a write of its own."""


READ_BYTES = 8 << 20
"""Documents that are read together may have so many and one reply of MongoDB more, or they are read in parts."""
WARM_GROUPS_MS = 30_000
"""To find the groups of a list that is warmed."""


def create_app(
    settings: Settings, catalog: Catalog, file: CatalogFile | None = None, service: socket.socket | None = None
) -> FastAPI:
    """The API of a catalog. Its lifespan must run (every ASGI server does that). `file`: of the catalog, if `/readyz`
    is to tell that what it says by now is wrong. `service`: where operators are answered."""
    ready = health()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with (
            serving(settings, catalog, ready, file) as state,
            serving_inside(app, state, service, ready),
        ):
            telemetry.UNREAD_BYTES.set_function(lambda: state.unread.bytes)
            if state.hot is not None:
                telemetry.L1_BYTES.set_function(partial(getattr, state.hot.l1.answers, "size"))
            yield {STATE: state}

    app = FastAPI(
        title="neverstale",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        telemetry=_traced(),
        redirect_slashes=False,
        redoc_url=None,
        docs_url=None,
        openapi_url=None,
    )
    app.add_middleware(UndecodedPaths)
    app.add_middleware(HotPath)
    if settings.limits.requests_per_second:
        app.add_middleware(Limited)
    app.add_middleware(Decided)
    app.add_middleware(Counted)
    problems.install(app)
    add_routes(app, catalog, ready, settings.api.public_pages)
    app.openapi = lambda: _openapi(app, catalog, settings)  # type: ignore[method-assign]
    return app


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, catalog: Catalog, health: ReadHealth, file: CatalogFile | None = None
) -> AsyncIterator[State]:
    """Open the clients, keep freshness current, and wait at the end for what is under way."""
    mongo = mongo_client(settings.mongodb)
    tasks, clock, api = Tasks(), PrimaryClock(), settings.api
    damage = Damage(clock.latest_version, health)
    marks = Bounds(clock)

    def breaker(server: Any) -> Breaker:
        return Breaker(server, api.breaker_failures, api.breaker_open_ms / 1000)

    mongodb = breaker("mongodb")
    refusing = Refusing(health)
    kinds = Kinds(mongo[catalog.database], settings.mongodb.read_timeout_ms)
    apply_ops = ApplyOpsGap(mongo, health)
    loader = Loader(mongo, catalog.database, settings.mongodb.read_timeout_ms, kinds, READ_BYTES)
    proving = Loader(mongo, catalog.database, round(PATIENCE_SECONDS * 1000), kinds)
    proofs = Proofs(proving.proof, marks, clock, tasks)
    loads = Loads(loader, api, mongodb, tasks, proofs, refusing)
    exports = Exports(loader, api)
    few = api.model_copy(update={"mongodb_concurrency": api.aggregations, "mongodb_queue": api.aggregation_queue})
    aggregating = Loader(mongo, catalog.database, api.aggregation_timeout_ms, kinds)
    aggregations = Loads(aggregating, few, mongodb, tasks, proofs, refusing)
    feeds = Feeds(settings.live, tasks, marks.bound)
    surroundings = ReadSurroundings(
        settings=settings,
        catalog=catalog,
        health=health,
        damage=damage,
        marks=marks,
        tasks=tasks,
        loads=loads,
        aggregations=aggregations,
        kinds=kinds,
        feeds=feeds,
        breaker=partial(breaker, "redis"),
    )
    reads = (read_cells if settings.redis.layout == "partition" else read_one_cell)(surroundings)
    reader, sources, freshness = reads.reader, reads.sources, reads.freshness
    compressed = Compressed(tasks)
    hot = Hot(reader, reads.l1, compressed, marks, RequestLines(sources), sources)
    gate, fresh_keys = gate_of(settings, catalog, tasks)
    if settings.limits.requests_per_second or not gate.admits_all:
        hot.gate = gate
    shared_caches = SharedCaches(catalog.resources, gate.access.is_open)
    if any(resource.shared_max_age_seconds for resource in catalog.resources.values()):
        hot.shared_caches = shared_caches
    limits: Buckets | None = None
    if settings.limits.requests_per_second:
        limits = hot.limits = Buckets(reads.commands, reads.breaker, settings.limits, tasks)
    live = LiveReads(feeds, StreamPlaces(settings.live), settings.live, Random())
    gate.on_change = live.doubt_callers
    warmer = Warmer(reader, Loader(mongo, catalog.database, WARM_GROUPS_MS, kinds), reads.popularity, sources)
    url = service_url(api.host, api.port)
    life = Life("api", f"{socket.gethostname()}-{os.getpid()}", asyncio.Event(), health, url)
    beside = Supervised(health)
    beside.keep("clock", partial(keep_clock, mongo, clock, health))
    reads.keep(beside)
    beside.keep("kinds", partial(kinds.keep, catalog, health))
    beside.keep("apply-ops", apply_ops.keep)
    if file is not None:
        beside.keep("catalog-file", partial(file.keep_telling, health))
    if settings.callers.configured:
        beside.keep("callers", fresh_keys.keep)
    own = settings.service
    inside = service_url(own.host, own.port) if own.port else None
    beside.keep("card", partial(show_card, life, reads.commands.round_trip, reads.commands.names, inside))
    beside.keep("count", hot.keep_counting)
    beside.keep("sample", Sampling(hot).keep)
    beside.keep("tally", partial(reads.read_counts.keep_telling, api.reads_flush_ms / 1000))
    if warm := [resource for resource in catalog.resources.values() if resource.warm is not None]:
        held = partial(_held, sources, freshness)
        keep_warm = KeepWarm(warmer, warm, held, health, api.warm_reads_per_second)
        beside.keep("warm", partial(keep_warm.run, api.warm_deadline_seconds))
    if settings.live.streams:
        beside.keep("live-reads", feeds.keep_looking)
        beside.keep("live-bounds", feeds.keep_telling)
    try:
        async with beside:
            try:
                yield State(
                    health=health,
                    clients=settings.clients,
                    unread=Unread(settings.clients.unread_bytes),
                    heard=Heard(settings.clients.heard_bytes),
                    hot=hot,
                    gate=gate,
                    limits=limits,
                    live=live,
                    reader=reader,
                    hits=reads.hits,
                    sources=sources,
                    figures=reads.figures,
                    known=reads.known,
                    freshness=freshness,
                    channel=reads.channel,
                    compressed=compressed,
                    popularity=reads.popularity,
                    exports=exports,
                    shared_caches=shared_caches,
                    warmer=warmer,
                    kinds=kinds,
                    refusing=refusing,
                    apply_ops=apply_ops,
                )
            finally:
                live.drain()
                await exports.finish()
                await tasks.finish(settings.service.drain_seconds / 4)
    finally:
        hot.report_hits()
        await reads.read_counts.tell()
        await reads.close()
        await mongo.close()


def _held(sources: Sources, freshness: GroupedFreshness, resource: Resource) -> str | None:
    """In which Redis, and in which generation if pages are warmed, what is warmed lies."""
    assert resource.warm is not None
    identity, watermark = freshness.identity, freshness.of(resource.name).watermark
    if identity is None or not watermark or not resource.warm.list_name:
        return identity if watermark else None
    generation = sources.grouped[f"{resource.name}.{resource.warm.source}"].generation
    return None if generation is None else f"{identity} {generation.id}"


def _traced() -> TelemetryConfig:
    """Only traces, and only if they are wanted; the environment alone switches nothing on."""
    provider = traces.provider()
    config: TelemetryConfig = {"tracing": provider is not None, "metrics": False, "logs": False}
    if provider is not None:
        config["tracer_provider"] = provider
    return {**config, "auto_configure": False, "operation_spans": False}


def _openapi(app: FastAPI, catalog: Catalog, settings: Settings) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=list(described(app.routes)),
        )
        document = with_references(openapi.with_problem_details(document), catalog.resources)
        if settings.limits.requests_per_second:
            document = openapi.with_limits(document)
        if settings.callers.configured:
            document = openapi.with_callers(document, app.routes, catalog.resources)
        app.openapi_schema = document
    return app.openapi_schema
