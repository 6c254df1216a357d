"""The reader: documents and pages by key, from the cache or from MongoDB, with what is known about their age.

There is no HTTP in it. All asks of one turn of the event loop for one source leave together: as one MGET of the floor
and the entries, for pages with what else vouches for them. Hits are answered at once, the rest goes on to `Misses`
and `Direct`. The work of a batch runs in a task of its own: a client that goes away takes only its own answer
with it, never a command that is under way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple, TypeAlias

from prometheus_client import Counter

from neverstale.api.freshness.groups import GroupedFreshness
from neverstale.api.freshness.watermark import Evidence, Freshness
from neverstale.api.reads.answer import ANYTHING, AUDIT, Answer, NotCached, Wish
from neverstale.api.reads.ask import Ask, FutureAsk, bypassing, fail_all
from neverstale.api.reads.breaker import Breaker
from neverstale.api.reads.bulkhead import Loads
from neverstale.api.reads.bypass import Direct
from neverstale.api.reads.l1 import L1, Reading
from neverstale.api.reads.misses import Misses
from neverstale.api.reads.source import CachedSource, Part
from neverstale.api.reads.weights import Weight
from neverstale.catalog.coverage import needs_of
from neverstale.errors import Outage, Refused
from neverstale.keys import digest
from neverstale.redis.cache import KEYS_A_CALL, Cache
from neverstale.redis.entries import Entry, is_current, is_touched
from neverstale.role import telemetry
from neverstale.role.tasks import Tasks, at_once
from neverstale.settings import Api
from neverstale.versions import Version, to_hex

BATCHES_UNDER_WAY: Final = 2
"""Batches of one source. Further asks wait for the next one: a batch costs as much as fifty of its asks, so many
small batches would be slower than few large ones, and a slow Redis gets larger batches, not more of them."""
BATCH_BYTES: Final = 16 << 20
"""Entries of about so many leave together: taking their bytes from Redis is a turn of the event loop."""
NO_EVIDENCE: Final = Evidence(0, 0)

ReadEntries: TypeAlias = Callable[[Sequence[Ask]], Awaitable[Sequence[Part]]]
"""As `CachedSource.read`."""
Rest: TypeAlias = tuple[Version | None, Sequence[Ask]]
"""What the entries did not answer, and their floor (`None`: unknown, nothing may be cached)."""


@dataclass(slots=True, eq=False)
class SourceTurn:
    """The asks of one source that will leave together."""

    source: CachedSource
    name: str
    hits: Counter
    weight: Weight
    freshness: Freshness
    """Of its watcher group."""
    group: str
    asks: list[Ask] = field(default_factory=list)
    scheduled: bool = False
    under_way: int = 0
    needs: frozenset[str] = frozenset()
    """What must be covered (`neverstale.catalog.coverage`), or nothing of it is read from the cache."""
    has_large: bool = False
    """There are answers that are too large for Redis."""


class BegunRead(NamedTuple):
    """What was known before the entries of some asks were read."""

    turn: SourceTurn
    asks: Sequence[Ask]
    evidence: Evidence | None
    """`None`: they may not be read."""
    reading: Reading | None


class Reader:
    """Reads the sources of one process's catalog. Every method belongs to the event loop it was made for."""

    def __init__(
        self,
        cache: Cache,
        loads: Loads,
        freshness: GroupedFreshness,
        breaker: Breaker,
        settings: Api,
        tasks: Tasks,
        random: Random,
        l1: L1,
        sources: Iterable[CachedSource],
    ) -> None:
        self._l1 = l1
        self._call_soon = asyncio.get_running_loop().call_soon
        self._cache = cache
        self._loads = loads
        self._freshness = freshness
        self._breaker = breaker
        self._tasks = tasks
        self._direct = Direct(loads, freshness.marks, settings.demands, tasks)
        self._misses = Misses(cache, loads, self._direct, freshness.marks, settings, random)
        self._turns = {
            source.name: SourceTurn(
                source,
                f"read-{source.name}",
                telemetry.READS.labels(source.name, "hit"),
                loads.weight(source),
                freshness.of(source.name),
                freshness.of(source.name).watches,
                needs=needs_of(source.name),
            )
            for source in sources
        }
        self._touching: set[bytes] = set()

    async def get(self, source: CachedSource, key: Any, wish: Wish = ANYTHING) -> Answer:
        """Returns the document with this `_id`, or its absence; or the page with this key.

        Raises `NotCached` (the wish forbids MongoDB), `DemandRefused` (no wish may demand it), `VersionInFuture` (its
        `min_version` is not of this cluster), `Outage` and `Overloaded`.
        """
        return await self.ask(source, key, wish)

    async def get_around(self, source: CachedSource, key: Any, wish: Wish = ANYTHING) -> Answer:
        """Returns the same for what is never cached; raises alike."""
        ask = FutureAsk(source, key, wish)
        self._tasks.start(self._answer_rest(self._turns[source.name], bypassing([ask]), None), f"read-{source.name}")
        return await ask.future

    async def get_many(self, source: CachedSource, keys: Sequence[Any], wish: Wish = ANYTHING) -> list[Answer]:
        """Returns as many answers as keys, in order; raises as `get` if one of them does, and `TooLarge`."""
        futures = self._ask_all(source, keys, wish)
        await asyncio.gather(*futures.values())
        return [futures[key].result() for key in keys]

    async def get_each(
        self, source: CachedSource, keys: Sequence[Any], wish: Wish = ANYTHING
    ) -> list[Answer | Refused]:
        """Returns the same; but what MongoDB refuses of one key alone, for good, stands in place of its answer."""
        futures = self._ask_all(source, keys, wish)
        try:
            await asyncio.gather(*futures.values())
        except Refused:
            await asyncio.wait(futures.values())
        return [_own(futures[key]) for key in keys]

    def _ask_all(self, source: CachedSource, keys: Sequence[Any], wish: Wish) -> dict[Any, asyncio.Future[Answer]]:
        distinct = dict.fromkeys(keys)
        return {key: self.ask(source, key, wish, one_of_many=len(distinct) > 1) for key in distinct}

    def weight(self, source: CachedSource) -> Weight:
        """How large its answers are."""
        return self._loads.weight(source)

    def bound(self, answer: Answer) -> float | None:
        """Seconds: no change acknowledged longer ago is missing from the answer; `None`: unknown."""
        return self._freshness.bound(answer.complete)

    def ask(
        self, source: CachedSource, key: Any, wish: Wish = ANYTHING, *, one_of_many: bool = False
    ) -> asyncio.Future[Answer]:
        """`get` without a coroutine: the future holds the answer or one of its errors. May be cancelled."""
        ask = FutureAsk(source, key, wish, *source.locate(key))
        ask.one_of_many = one_of_many
        self.start(ask)
        return ask.future

    def start(self, ask: Ask) -> None:
        """Has an ask answered with the others of this turn of the event loop."""
        turn = self._turns[ask.source.name]
        turn.asks.append(ask)
        if not turn.scheduled:
            turn.scheduled = True
            self._call_soon(self._leave, turn)

    def _leave(self, turn: SourceTurn) -> None:
        """Sends a turn's asks on their way, unless so many are under way that its end will do that."""
        while turn.asks and turn.under_way < BATCHES_UNDER_WAY:
            self._tasks.start(self.answer(turn, self.take(turn)), turn.name)

    def take(self, turn: SourceTurn) -> Sequence[Ask]:
        """The asks of a turn's next batch, which is under way from now on."""
        most = min(KEYS_A_CALL, turn.weight.room(BATCH_BYTES))
        asks, turn.asks = turn.asks[:most], turn.asks[most:]
        turn.scheduled = bool(turn.asks)
        turn.under_way += 1
        return asks

    async def answer(self, turn: SourceTurn, asks: Sequence[Ask]) -> None:
        """Answers a batch that is under way."""
        begun = self.begin(turn, asks)
        await self.answer_rest(turn, await self.answer_hits(begun, turn.source.read))

    def begin(self, turn: SourceTurn, asks: Sequence[Ask]) -> BegunRead:
        """Notes what is known before the entries are read. Should that fail, so do the asks."""
        try:
            return self._begin(turn, asks)
        except BaseException as error:
            self._end(turn, asks, error)
            raise

    def _begin(self, turn: SourceTurn, asks: Sequence[Ask]) -> BegunRead:
        freshness = turn.freshness
        evidence, lacks = freshness.evidence(), freshness.lacks
        if not self._breaker.allows() or (lacks and not lacks.isdisjoint(turn.needs)):
            return BegunRead(turn, asks, None, None)
        l1 = self._l1
        reading = l1.begin(turn.source.announced(asks), turn.group) if l1.watermark_of(turn.group) else None
        return BegunRead(turn, asks, evidence, reading)

    async def answer_hits(self, begun: BegunRead, read: ReadEntries) -> list[Rest]:
        """Answers the hits among what is read; returns the asks that are still to be answered. Then the batch is
        under way no longer."""
        try:
            rest = await self._answer_hits(begun, read)
        except BaseException as error:
            self._end(begun.turn, begun.asks, error)
            raise
        self._end(begun.turn)
        return rest

    def _end(self, turn: SourceTurn, asks: Sequence[Ask] = (), error: BaseException | None = None) -> None:
        """A batch is under way no longer. `asks` are those that fail with the error."""
        if error is not None:
            fail_all(asks, error, self._freshness.marks)
        turn.under_way -= 1
        self._leave(turn)

    async def answer_rest(self, turn: SourceTurn, missing: Sequence[Rest]) -> None:
        """Answers the asks that the entries did not."""
        await at_once(*(self._answer_rest(turn, rest, floor) for floor, rest in missing if rest))

    async def _answer_hits(self, begun: BegunRead, read: ReadEntries) -> list[Rest]:
        turn, asks, evidence, reading = begun
        if evidence is None:
            return [(None, bypassing(asks))]
        try:
            parts = await read(asks)
            self._breaker.succeeded()
            _weigh(turn.weight, parts)
            if not turn.freshness.still_holds(evidence):
                evidence = NO_EVIDENCE
            rest: list[Rest] = []
            for part, some in _shared_out(parts, asks):
                if part.floor is None:
                    rest.append((None, bypassing(some)))
                    continue
                others = self._answer_plain(turn, some, part, evidence.watermark, reading)
                rest.append((part.floor, await self._answer_decoded(turn, others, part, evidence.watermark)))
            return rest
        except Outage:
            self._breaker.failed()
        finally:
            if reading is not None:
                self._l1.end(reading)
        return [(None, bypassing([ask for ask in asks if not ask.done()]))]

    def _answer_plain(
        self, turn: SourceTurn, asks: Sequence[Ask], part: Part, watermark: Version, reading: Reading | None
    ) -> Sequence[Ask]:
        """Answers those without wishes from the bytes of their entries; returns the others.

        Nearly all reads are of this kind. Where nothing is known of the age of hits, none is.
        """
        assert part.floor is not None
        if not watermark:
            return asks
        others: list[Ask] = []
        untouched: list[bytes] = []
        audits = 0
        found, floor = part.raws, to_hex(part.floor).encode("ascii")
        latest, shows = to_hex(self._cache.damage.latest()).encode("ascii"), turn.source.shows
        for ask in asks:
            key = ask.entry_key
            raw = found[key]
            plain = ask.wish is ANYTHING
            undemanding = plain or ask.wish is AUDIT
            if raw is None or not undemanding or not is_current(raw, digest(key, shows), floor, latest):
                others.append(ask)
                continue
            ask.hit(raw, watermark, reading)
            if not plain:
                audits += 1
            elif not is_touched(raw):
                untouched.append(key)
        turn.hits.inc(len(asks) - len(others) - audits)
        if audits:
            telemetry.AUDITED.inc(audits)
        if untouched and turn.source.on_change == "auto":
            self._touch(list(dict.fromkeys(untouched)))
        return others

    async def _answer_decoded(
        self, turn: SourceTurn, asks: Sequence[Ask], part: Part, watermark: Version
    ) -> Sequence[Ask]:
        """Answers those whose wishes the entries meet; returns the others, with what the entries say about them."""
        floor, found = part.floor, part.raws
        assert floor is not None
        keys = list(dict.fromkeys([ask.entry_key for ask in asks]))
        if not keys:
            return ()
        decoded = await self._cache.decode(keys, [found[key] for key in keys], turn.source.shows)
        entries = dict(zip(keys, decoded, strict=True))
        missing = [ask for ask in asks if not self._hit(ask, entries[ask.entry_key], floor, watermark)]
        if turn.source.on_change == "auto":
            read = {ask.entry_key for ask in asks if not ask.wish.audit}
            seen = ((key, entries[key]) for key in keys if key in read)
            self._touch([key for key, entry in seen if entry and entry.fresh and not entry.touched])
        return missing

    def _hit(self, ask: Ask, entry: Entry | None, floor: Version, watermark: Version) -> bool:
        """Answers from the entry if it is current and will do; else notes why not, and what it holds."""
        ask.stale_since = floor
        if entry is not None:
            ask.stale_since = max(floor, entry.version)
            if entry.fresh and entry.version >= floor:
                complete = max(entry.version, watermark)
                answer = Answer(entry.body, entry.etag, entry.version, complete, "hit", "l2")
                if ask.take(answer, self._freshness.bound):
                    return True
                ask.how, ask.held = "request", answer
            elif entry.fresh or entry.body is not None or entry.body_is_absence:
                version = entry.version if entry.fresh else entry.body_version
                ask.how, ask.held = "stale", Answer(entry.body, entry.etag, version, version, "stale", "l2")
        ask.stale_since = max(ask.stale_since, ask.wish.announced)
        if ask.wish.no_cache:
            ask.how = "request"
        return False

    async def _answer_rest(self, turn: SourceTurn, asks: Sequence[Ask], floor: Version | None) -> None:
        missing: list[Ask] = []
        direct: list[Ask] = []
        for ask in asks:
            if ask.wish.only_if_cached:
                ask.refuse(NotCached("the cache holds no answer that will do"))
            elif floor is None or ask.how == "request":
                direct.append(ask)
            else:
                missing.append(ask)
        if missing or direct:
            self._loads.proofs.expect()
        # Of sources with answers that Redis does not take: as of now, announcements spoil what is being read.
        keeps = missing and turn.has_large and self._l1.watermark_of(turn.group)
        reading = self._l1.begin(turn.source.announced(missing), turn.group) if keeps else None
        try:
            await at_once(
                self._misses.fetch(turn.source, missing, floor) if missing and floor is not None else None,
                self._direct.read(direct) if direct else None,
            )
        except BaseException as error:
            fail_all(asks, error, self._freshness.marks)  # nobody waits for an answer that cannot come
            raise
        else:
            kept = [ask.keep(reading) for ask in missing if ask.vouched]
            turn.has_large = turn.has_large or any(kept)
        finally:
            if reading is not None:
                self._l1.end(reading)

    def _touch(self, keys: Sequence[bytes]) -> None:
        keys = [key for key in keys if key not in self._touching]
        if keys:
            self._touching.update(keys)
            self._tasks.start(self._send_touch(keys), "touch")

    async def _send_touch(self, keys: Sequence[bytes]) -> None:
        try:
            await self._cache.touch(keys)
        except Outage:
            pass  # Somebody touches them at the next read.
        finally:
            self._touching.difference_update(keys)


def _shared_out(parts: Sequence[Part], asks: Sequence[Ask]) -> Iterable[tuple[Part, Sequence[Ask]]]:
    """Who waits for which part."""
    if len(parts) == 1:
        return [(parts[0], asks)]
    number_of = {key: number for number, part in enumerate(parts) for key in part.raws}
    shared: list[tuple[Part, list[Ask]]] = [(part, []) for part in parts]
    for ask in asks:
        shared[number_of[ask.entry_key]][1].append(ask)
    return shared


def _own(settled: asyncio.Future[Answer]) -> Answer | Refused:
    error = settled.exception()
    if isinstance(error, Refused) and error.is_of_one_read:
        return error
    return settled.result()


def _weigh(weight: Weight, parts: Iterable[Part]) -> None:
    for part in parts:
        sizes = [len(raw) for raw in part.raws.values() if raw is not None]
        weight.saw(sum(sizes), len(sizes))
