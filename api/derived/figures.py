"""Figures: counters and rankings, from what consumers keep in Redis, else from MongoDB.

There are no entries and no leases here: Redis holds the figures themselves. They are used if their generation is
complete, was built on the Redis that is read, and is declared as here; then nothing is missing that the watermark
covers. Otherwise MongoDB is asked, within limits: few such reads at once, each with a deadline that the server knows,
the same ones together, and their answers kept for a moment.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from neverstale.api.derived.generations import Known
from neverstale.api.freshness.groups import GroupedFreshness
from neverstale.api.reads.answer import Answer, NotCached, Wish
from neverstale.api.reads.ask import Ask, FutureAsk
from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.bulkhead import Loads
from neverstale.api.reads.bypass import Direct
from neverstale.api.reads.source import QUERIES_A_READ, is_nothing
from neverstale.catalog import Resource
from neverstale.catalog.coverage import needs_of
from neverstale.derived.generations import Generation
from neverstale.errors import NeverstaleError, Outage
from neverstale.mongodb.kinds import Kinds
from neverstale.mongodb.loader import Loader, Snapshot
from neverstale.redis.cache import Cache
from neverstale.redis.entries import NO_ETAG, etag_of
from neverstale.role.tasks import Tasks
from neverstale.settings import Demands
from neverstale.versions import Version

MOST_KEPT = 1000
"""Answers of MongoDB that are kept for a moment."""


NOT_OURS: Final = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError)
"""What reading bytes raises that consumers have not written."""


class Figure(NamedTuple):
    """What Redis knows."""

    body: bytes | None
    """`None`: there is nothing of this name."""


class FigureSource(ABC):
    """One counter or ranking (see `neverstale.api.reads.source.Source`)."""

    keys_a_read: ClassVar[int] = QUERIES_A_READ

    def __init__(self, resource: Resource, declaration: str) -> None:
        """`declaration`: `counters.{name}` or `rankings.{name}`."""
        self.resource = resource
        self.name = f"{resource.name}.{declaration}"
        self.collection = resource.collection
        self.declaration = declaration
        self._digest = resource.derived.digests()[declaration]

    def generation(self, known: Known) -> Generation | None:
        """The one in Redis that holds it as it is declared here."""
        return known.for_counts(self.declaration, self._digest)

    def canonical(self, key: Any) -> str:
        text: str = key.canonical
        return text

    def is_absence(self, body: bytes | None) -> bool:
        return is_nothing(body)

    @abstractmethod
    def slot(self, key: Any) -> bytes:
        """The slot of the one group that is asked for, as announcements name it; empty: all groups are."""

    @abstractmethod
    async def load(self, loader: Loader, keys: Sequence[Any], at_least: Version) -> Snapshot:
        """Reads MongoDB."""

    @abstractmethod
    async def look(self, cache: Cache, known: Known, key: Any) -> Figure | None:
        """What Redis holds; `None`: it does not know, ask MongoDB. Raises `Outage`."""


class _Kept(NamedTuple):
    snapshot: Snapshot
    until: float


class Figures:
    """Reads the counters and rankings of one process, from Redis or from MongoDB."""

    def __init__(
        self,
        cache: Cache,
        loads: Loads,
        demands: Demands,
        freshness: GroupedFreshness,
        breaker: Breaker,
        tasks: Tasks,
        keep_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        kinds: Kinds,
    ) -> None:
        self._kinds = kinds
        self._cache = cache
        self._direct = Direct(loads, freshness.marks, demands, tasks, self._keep)
        self._freshness = freshness
        self._breaker = breaker
        self._tasks = tasks
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._kept: dict[tuple[str, str], _Kept] = {}

    async def get(self, figure: FigureSource, known: Known, key: Any, wish: Wish) -> Answer:
        """Raises like `Reader.get`, and what the figure raises."""
        ask = FutureAsk(figure, key, wish)
        # A client that goes away takes only its own answer with it.
        self._tasks.start(self._answer(ask, figure, known), f"read-{figure.name}")
        return await ask.future

    async def _answer(self, ask: Ask, figure: FigureSource, known: Known) -> None:
        try:
            ask.stale_since = 0  # Redis holds what was applied
            if not await self._answer_from_redis(ask, figure, known):
                ask.stale_since = ask.wish.announced
                await self._answer_from_mongodb(ask)
        except NeverstaleError as error:
            ask.fail(error, self._freshness.marks)
        except BaseException as error:
            ask.fail(error, self._freshness.marks)
            raise

    async def _answer_from_redis(self, ask: Ask, figure: FigureSource, known: Known) -> bool:
        ask.how = "bypass"
        if ask.wish.no_cache:
            ask.how = "request"
            return False
        freshness = self._freshness.of(figure.name)
        evidence = freshness.evidence()
        if not self._kinds.bounds(figure.collection):
            return False  # what was counted once, nothing keeps up to date
        if not evidence.watermark or not self._breaker.allows():
            return False
        if freshness.lacks and not freshness.lacks.isdisjoint(needs_of(figure.name)):
            return False
        try:
            held = await figure.look(self._cache, known, ask.key)
            self._breaker.succeeded()
        except Outage:
            self._breaker.failed()
            return False
        except NOT_OURS as error:
            self._breaker.succeeded()
            self._cache.damage.met("derived", f"{figure.name}: {type(error).__name__}: {error}")
            return False
        if held is None or not freshness.still_holds(evidence):
            return False
        etag = etag_of(held.body) if held.body is not None else NO_ETAG
        answer = Answer(held.body, etag, evidence.watermark, evidence.watermark, "hit", "l2")
        if ask.take(answer, self._freshness.bound):
            return True
        ask.how, ask.held = "request", answer
        return False

    async def _answer_from_mongodb(self, ask: Ask) -> None:
        if not ask.wish.no_cache:
            kept = self._kept.get((ask.source.name, ask.canonical))
            ask.collapsed = True  # what is kept was read for somebody else
            if (
                kept is not None
                and self._clock() < kept.until
                and ask.take_snapshot(kept.snapshot, self._freshness.bound)
            ):
                return
        if ask.wish.only_if_cached:
            raise NotCached("the cache holds no answer that will do")
        ask.collapsed = False
        await self._direct.read([ask])

    def _keep(self, ask: Ask, snapshot: Snapshot) -> None:
        now = self._clock()
        if len(self._kept) >= MOST_KEPT:
            self._kept = {at: kept for at, kept in self._kept.items() if now < kept.until}
        if len(self._kept) < MOST_KEPT:
            self._kept[ask.source.name, ask.canonical] = _Kept(snapshot, now + self._keep_seconds)
