"""The auditor as a role, and for some seconds: it wires, and lives until it is asked to stop."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final, NoReturn

from neverstale.api.derived.sources import Sources, known_of
from neverstale.api.reads.read_counts import ReadCounts
from neverstale.catalog import Catalog
from neverstale.errors import Outage
from neverstale.mongodb.kinds import Kinds
from neverstale.ops.auditor.asking import Asker
from neverstale.ops.auditor.auditor import Auditor
from neverstale.ops.auditor.evidence import evidence_of
from neverstale.ops.auditor.feed import Feed
from neverstale.ops.auditor.judging.judge import Judge
from neverstale.ops.auditor.judging.timeline import Timeline
from neverstale.ops.auditor.judging.truth import ReadBudget, Truth
from neverstale.ops.auditor.picks import Picks
from neverstale.ops.auditor.record import record_of, restored
from neverstale.ops.auditor.traffic import Traffic
from neverstale.ops.auditor.witness import Witness
from neverstale.ops.redis.roles import roles
from neverstale.ops.redis.stores import Stores, stores
from neverstale.ops.why.held import addresses_of
from neverstale.redis import audit
from neverstale.redis.commands import Commands
from neverstale.redis.most_read import Popularity
from neverstale.role import telemetry
from neverstale.role.renewal import Renewal
from neverstale.role.retry import forever
from neverstale.role.service import Health, Life, run_role, show_card
from neverstale.role.supervised import Supervised
from neverstale.servers import mongo_client
from neverstale.settings import Settings

log = telemetry.logger(__name__)

MEET_SECONDS: Final = 2.0
DRAW_SECONDS: Final = 10.0
TELL_SECONDS: Final = 2.0
TRAFFIC_SECONDS: Final = 10.0


def run(settings: Settings, catalog: Catalog, renewal: Renewal) -> int:
    """Be an auditor until SIGTERM or SIGINT; returns the exit code, see `neverstale.role.service.run_role`."""
    return run_role("auditor", settings, partial(live, settings, catalog), renewal=renewal)


async def live(settings: Settings, catalog: Catalog, life: Life) -> None:
    """Audit until `life.stop`."""
    async with open_audit(settings, catalog, fills=False) as parts, Supervised(life.health) as beside:
        await parts.restore()
        beside.keep("card", partial(show_card, life, parts.cache.round_trip, parts.cache.names))
        parts.keep(beside, life.health, life.instance)
        await parts.auditor.work(life.stop)
        await parts.tell(life.instance)


@dataclass
class Parts:
    """An auditor, and all that it needs."""

    settings: Settings
    catalog: Catalog
    cache: Commands
    """For what lies in no cell."""
    feed: Feed
    picks: Picks
    asker: Asker
    auditor: Auditor
    witness: Witness
    traffic: Traffic

    def keep(self, beside: Supervised, health: Health, instance: str) -> None:
        """What goes on beside the auditing."""
        self.keep_asking(beside, health)
        beside.keep("traffic", partial(self._again, TRAFFIC_SECONDS, self.look_at_traffic))
        beside.keep("tell", partial(self._again, TELL_SECONDS, partial(self.tell, instance)))

    def keep_asking(self, beside: Supervised, health: Health) -> None:
        """What is known of whom and of what to ask."""
        beside.keep("feed", self.feed.keep)
        beside.keep("meet", partial(self._again, MEET_SECONDS, partial(self.meet, health)))
        beside.keep("draw", partial(self._again, DRAW_SECONDS, self.picks.draw))

    async def meet(self, health: Health) -> None:
        """Learn which processes of the API there are."""
        health.ok("redis")
        named = [url.strip() for url in self.settings.auditor.urls.split(",") if url.strip()]
        try:
            found, all_told = await roles(self.settings.redis)
            known = set() if all_told else set(self.asker.urls)
            self.asker.meet(named or known | set(addresses_of(found)))
        except Outage as outage:
            health.wrong("redis", outage.reason)
        if self.asker.urls:
            health.ok("api")
        else:
            health.wrong("api", "no API names its address in Redis; see auditor.urls")

    async def look_at_traffic(self) -> None:
        await self.traffic.look(self.asker.urls)
        ours = self.settings.auditor
        self.auditor.rate = self.traffic.allowed(ours.share_percent, ours.reads_per_second)

    async def tell(self, instance: str) -> None:
        """Write down what was found, in Redis and as metrics."""
        hour = self.auditor.ledger.last_hour(time.time())
        record = record_of(hour, self.auditor.ledger.since(time.time()), self.auditor.rate, self.problems())
        telemetry.AUDIT_NINES.clear()  # of what was not asked for within the hour there are none
        telemetry.AUDIT_WORST_AGE.clear()
        for name, resource in record["resources"].items():
            telemetry.AUDIT_NINES.labels(name).set(min(kind["nines"] for kind in resource.values()))
            telemetry.AUDIT_WORST_AGE.labels(name).set(max(kind["worst_age_seconds"] for kind in resource.values()))
        with suppress(Outage):
            await audit.store(self.cache, {"instance": instance, **record})

    async def restore(self) -> None:
        """What an auditor before this one has told of the last hour."""
        with suppress(Outage):
            told = await audit.stored(self.cache)
            if told is not None:
                restored(told, self.auditor.ledger)

    def problems(self) -> list[str]:
        """Why less is audited than could be."""
        found = []
        if self.feed.problem is not None:
            found.append(f"what was just changed is not known: {self.feed.problem}")
        if not self.asker.urls:
            found.append("no API names its address in Redis")
        return found

    @staticmethod
    async def _again(seconds: float, work: Any) -> NoReturn:
        async def once() -> float:
            await work()
            return seconds

        await forever(once)


@asynccontextmanager
async def open_audit(settings: Settings, catalog: Catalog, *, fills: bool) -> AsyncIterator[Parts]:
    """Clients, and an auditor on them. Nothing is asked yet. `fills`: see `Picks`."""
    mongo = mongo_client(settings.mongodb)
    bearer = settings.auditor.bearer
    asker = Asker(bearer.get_secret_value() if bearer is not None else None)
    try:
        async with stores(settings, catalog) as opened:
            yield _parts(settings, catalog, mongo, opened, asker, fills)
    finally:
        asker.close()
        await mongo.close()


def _parts(settings: Settings, catalog: Catalog, mongo: Any, opened: Stores, asker: Asker, fills: bool) -> Parts:
    cache, ours = opened.commands, settings.auditor
    names = cache.names
    popularity = Popularity(cache, settings.api.reads_half_life_seconds)
    secret = settings.api.cursor_secret.get_secret_value().encode() if settings.api.cursor_secret else b""
    sources = Sources.of(
        catalog, cache, known_of(catalog, cache, lambda: None), ReadCounts(names, popularity), secret
    )
    timeline = Timeline()
    kinds = Kinds(mongo[catalog.database], settings.mongodb.read_timeout_ms)
    allowance = ReadBudget(ours.mongodb_reads_per_second)
    truth = Truth(mongo, catalog.database, settings.mongodb.read_timeout_ms, kinds, timeline, allowance)
    feed = Feed(mongo, catalog, timeline)
    picks = Picks(mongo, catalog, sources, feed, popularity, Random(), fills=fills)
    witness = Witness(cache, partial(_described, settings, catalog, opened), ours.violations)
    judge = Judge(truth, timeline, feed.changes)
    auditor = Auditor(ours, list(catalog.resources.values()), asker, judge, picks, witness)
    return Parts(settings, catalog, cache, feed, picks, asker, auditor, witness, Traffic())


async def _described(settings: Settings, catalog: Catalog, opened: Stores, found: Any) -> dict[str, Any]:
    return await evidence_of(found, settings, catalog, opened)


@asynccontextmanager
async def auditing(settings: Settings, catalog: Catalog, *, fills: bool) -> AsyncIterator[Parts]:
    """In here it is audited, at the full rate; afterwards what was wrong has been asked for again."""
    stop, health = asyncio.Event(), Health()
    async with open_audit(settings, catalog, fills=fills) as parts, Supervised(health) as beside:
        await parts.meet(health)
        await parts.picks.draw()
        parts.auditor.rate = settings.auditor.reads_per_second
        parts.keep_asking(beside, health)
        async with asyncio.TaskGroup() as group:
            group.create_task(parts.auditor.work(stop))
            try:
                yield parts
            finally:
                stop.set()
        await parts.auditor.finish()


async def audit_for(settings: Settings, catalog: Catalog, seconds: float) -> Parts:
    """Audit for so long; what was found is in `auditor.ledger.all` and `witness.kept`."""
    async with auditing(settings, catalog, fills=True) as parts:
        await asyncio.sleep(seconds)
    return parts
