"""The reader: documents and pages by key, from the cache or from MongoDB, with what is known about their age.

There is no HTTP in it. All gets of one turn of the event loop for one source leave together: as one MGET of the floor
and the entries, for pages with what else vouches for them. Hits are answered at once, the rest goes on to `Misses`
and `Direct`. The work of a batch runs in a task of its own: a client that goes away takes only its own answer
with it, never a command that is under way.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol, TypeAlias

from prometheus_client import Counter

from api.freshness.watermark import Evidence, Freshness
from api.reads.answer import ANYTHING, Answer, NotCached, Wish
from api.reads.ask import Ask, fail_all
from api.reads.breaker import Breaker
from api.reads.bulkhead import Loads
from api.reads.bypass import Direct
from api.reads.l1 import L1, Reading
from api.reads.misses import Misses
from api.reads.source import AnySource, Part, Place, Shelf
from api.reads.weights import Weight
from neverstale.catalog import Resource
from neverstale.errors import Outage
from neverstale.keys import KeyValue, digest
from neverstale.redis.cache import KEYS_A_CALL, Cache
from neverstale.redis.entries import Entry, is_current, is_touched
from neverstale.role import telemetry
from neverstale.role.tasks import Tasks, at_once
from neverstale.settings import Api
from neverstale.versions import Version, to_hex

BATCHES_UNDER_WAY: Final = 2
"""Of one resource. Further gets wait for the next batch: a batch costs as much as fifty of its gets, so many small
ones would be slower than few large ones, and a slow Redis gets larger batches, not more of them."""
BATCH_BYTES: Final = 16 << 20
"""Entries of about so many leave together: taking their bytes from Redis is a turn of the event loop."""
NO_EVIDENCE: Final = Evidence(0, 0)

_Rest: TypeAlias = tuple[Version | None, Sequence[Ask]]
"""What the entries did not answer, and their floor (`None`: unknown, nothing may be cached)."""


class Get(Protocol):
    """A get without wishes, which takes a hit as Redis holds it."""

    @property
    def entry_key(self) -> bytes: ...

    @property
    def place(self) -> Place | None: ...

    def done(self) -> bool: ...

    def hit(self, entry: bytes, evidence: Evidence, reading: Reading | None) -> None:
        """Answer with a current entry. It may be kept if it was read for this `reading`."""

    def ask(self) -> Ask:
        """The same for whatever else the answer will be."""


@dataclass(slots=True, eq=False)
class _Turn:
    """The gets of one source that will leave together."""

    source: AnySource
    name: str
    shelf: Shelf
    hits: Counter
    weight: Weight
    asks: list[Ask] = field(default_factory=list)
    gets: list[Get] = field(default_factory=list)
    scheduled: bool = False
    under_way: int = 0
    has_large: bool = False
    """There are answers that are too large for Redis."""


class Reader:
    """Reads the sources of one process's catalog. Every method belongs to the event loop it was made for."""

    def __init__(
        self,
        cache: Cache,
        loads: Loads,
        freshness: Freshness,
        breaker: Breaker,
        settings: Api,
        tasks: Tasks,
        random: Random,
        l1: L1,
        sources: Iterable[tuple[AnySource, Shelf]],
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
            source.name: _Turn(
                source,
                f"read-{source.name}",
                shelf,
                telemetry.READS.labels(source.name, "hit"),
                loads.weight(source),
            )
            for source, shelf in sources
        }
        self._touching: set[bytes] = set()

    async def get(self, source: AnySource, key: Any, wish: Wish = ANYTHING) -> Answer:
        """The document with this `_id`, or its absence; or the page with this key.

        Raises `NotCached` (the wish forbids MongoDB), `DemandRefused` (no wish may demand it), `VersionInFuture` (its
        `min_version` is not of this cluster), `Outage` and `Overloaded`.
        """
        return await self.ask(source, key, wish)

    async def get_around(self, source: AnySource, key: Any, wish: Wish = ANYTHING) -> Answer:
        """The same for what is never cached; raises alike."""
        return await self._past_cache(source, key, wish)

    async def get_many(self, resource: Resource, keys: Sequence[KeyValue], wish: Wish = ANYTHING) -> list[Answer]:
        """As many answers as keys, in order; raises as `get` if one of them does, and `TooLarge`."""
        distinct = dict.fromkeys(keys)
        futures = {key: self.ask(resource, key, wish, one_of_many=len(distinct) > 1) for key in distinct}
        await asyncio.gather(*futures.values())
        return [futures[key].result() for key in keys]

    def weight(self, source: AnySource) -> Weight:
        """How large its answers are."""
        return self._loads.weight(source)

    def bound(self, answer: Answer) -> float | None:
        """Seconds: no change acknowledged longer ago is missing from the answer; `None`: unknown."""
        return self._freshness.bound(answer.complete)

    def ask(
        self, source: AnySource, key: Any, wish: Wish = ANYTHING, *, one_of_many: bool = False
    ) -> asyncio.Future[Answer]:
        """`get` without a coroutine: the future holds the answer or one of its errors. May be cancelled."""
        turn = self._turns[source.name]
        text, entry_key, place = turn.shelf.name(key)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        turn.asks.append(Ask(source, key, text, entry_key, future, wish, place, one_of_many=one_of_many))
        self._schedule(turn)
        return future

    def _past_cache(self, source: AnySource, key: Any, wish: Wish) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        ask = Ask(source, key, self._turns[source.name].shelf.name(key).canonical, b"", future, wish)
        asks = _bypassing([ask])
        self._tasks.start(self._answer_rest(source, asks, None), f"read-{source.name}")
        return future

    def start(self, source: str, get: Get) -> None:
        """Answer a get that has no wishes, with less ado."""
        turn = self._turns[source]
        turn.gets.append(get)
        self._schedule(turn)

    def _schedule(self, turn: _Turn) -> None:
        if not turn.scheduled:
            turn.scheduled = True
            self._call_soon(self._leave, turn)

    def _leave(self, turn: _Turn) -> None:
        """Send a turn's gets on their way, unless so many are under way that its end will do that."""
        if not (turn.asks or turn.gets) or turn.under_way >= BATCHES_UNDER_WAY:
            return
        most = min(KEYS_A_CALL, turn.weight.room(BATCH_BYTES))
        gets, turn.gets = turn.gets[:most], turn.gets[most:]
        room = most - len(gets)
        asks, turn.asks = turn.asks[:room], turn.asks[room:]
        turn.scheduled = bool(turn.asks or turn.gets)
        turn.under_way += 1
        self._tasks.start(self._answer(turn, gets, asks), turn.name)
        self._leave(turn)

    async def _answer(self, turn: _Turn, gets: Sequence[Get], asks: list[Ask]) -> None:
        try:
            missing = await self._answer_hits(turn, gets, asks)
        except BaseException as error:
            fail_all([*asks, *_unanswered(gets)], error, self._freshness.marks)
            raise
        finally:
            turn.under_way -= 1
            self._leave(turn)
        await at_once(*(self._answer_rest(turn.source, rest, floor) for floor, rest in missing if rest))

    async def _answer_hits(self, turn: _Turn, gets: Sequence[Get], asks: list[Ask]) -> list[_Rest]:
        """The asks that are still to be answered. Gets that are no plain hits are added to `asks`."""
        evidence = self._freshness.evidence()
        if not self._breaker.allows():
            asks += [get.ask() for get in gets]
            return [(None, _bypassing(asks))]
        wanted = {get.entry_key: get.place for get in gets}
        wanted.update({ask.entry_key: ask.place for ask in asks})
        reading = self._l1.begin(turn.shelf.announced(wanted)) if self._l1.watermark else None
        try:
            parts = await turn.shelf.read(wanted)
            self._breaker.succeeded()
            _weigh(turn.weight, parts)
            if not self._freshness.still_holds(evidence):
                evidence = NO_EVIDENCE
            rest: list[_Rest] = []
            for part, mine, some in _shared_out(parts, gets, asks):
                if part.floor is None:
                    some += _unanswered(mine)
                    rest.append((None, _bypassing(some)))
                    continue
                some += self._answer_gets(turn, mine, part.raws, part.floor, evidence, reading)
                rest.append((part.floor, await self._answer_asks(turn, some, part, evidence.watermark)))
            return rest
        except Outage:
            self._breaker.failed()
        finally:
            if reading is not None:
                self._l1.end(reading)
        asks += _unanswered(gets)
        return [(None, _bypassing([ask for ask in asks if not ask.future.done()]))]

    def _answer_gets(
        self,
        turn: _Turn,
        gets: Sequence[Get],
        found: Mapping[bytes, bytes | None],
        floor: Version,
        evidence: Evidence,
        reading: Reading | None,
    ) -> list[Ask]:
        """Answers those that the entries do not answer, and why those that have no bound."""
        if not evidence.watermark:
            return [get.ask() for get in gets]
        asks: list[Ask] = []
        untouched: list[bytes] = []
        floor_text, latest = to_hex(floor).encode("ascii"), to_hex(self._cache.damage.latest()).encode("ascii")
        for get in gets:
            key = get.entry_key
            raw = found[key]
            if raw is None or not is_current(raw, digest(key), floor_text, latest):
                asks.append(get.ask())
                continue
            get.hit(raw, evidence, reading)
            if not is_touched(raw):
                untouched.append(key)
        turn.hits.inc(len(gets) - len(asks))
        if untouched and turn.source.on_change == "auto":
            self._touch(list(dict.fromkeys(untouched)))
        return asks

    async def _answer_asks(self, turn: _Turn, asks: Sequence[Ask], part: Part, watermark: Version) -> Sequence[Ask]:
        """Those that the entries do not answer."""
        floor, found = part.floor, part.raws
        assert floor is not None
        keys = list(dict.fromkeys([ask.entry_key for ask in asks]))
        if not keys:
            return ()
        decoded = await self._cache.decode(keys, [found[key] for key in keys])
        entries = dict(zip(keys, decoded, strict=True))
        missing = [ask for ask in asks if not self._hit(ask, entries[ask.entry_key], floor, watermark)]
        if turn.source.on_change == "auto":
            self._touch([key for key, entry in entries.items() if entry and entry.fresh and not entry.touched])
        return missing

    def _hit(self, ask: Ask, entry: Entry | None, floor: Version, watermark: Version) -> bool:
        """Answer from the entry if it is current and will do; else note why not, and what it holds."""
        ask.stale_since = floor
        if entry is not None:
            ask.stale_since = max(floor, entry.version)
            if entry.fresh and entry.version >= floor:
                complete = max(entry.version, watermark)
                answer = Answer(entry.body, entry.etag, entry.version, complete, "hit", "l2")
                if ask.wish is ANYTHING or self._will_do(answer, ask.wish):
                    ask.settle(answer)
                    return True
                ask.how, ask.held = "request", answer
            elif entry.fresh or entry.body is not None or entry.body_is_absence:
                version = entry.version if entry.fresh else entry.body_version
                ask.how, ask.held = "stale", Answer(entry.body, entry.etag, version, version, "stale", "l2")
        if ask.wish.no_cache:
            ask.how = "request"
        return False

    def _will_do(self, answer: Answer, wish: Wish) -> bool:
        if wish.no_cache or answer.complete < wish.min_version:
            return False
        if wish.max_age_seconds is None:
            return True
        bound = self._freshness.bound(answer.complete)
        return bound is not None and bound <= wish.max_age_seconds

    async def _answer_rest(self, source: AnySource, asks: Sequence[Ask], floor: Version | None) -> None:
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
        turn = self._turns[source.name]
        # Of sources with answers that Redis does not take: as of now, announcements spoil what is being read.
        wanted = {ask.entry_key: ask.place for ask in missing} if turn.has_large and self._l1.watermark else {}
        reading = self._l1.begin(turn.shelf.announced(wanted)) if wanted else None
        try:
            await at_once(
                self._misses.fetch(source, missing, floor) if missing and floor is not None else None,
                self._direct.read(direct) if direct else None,
            )
        except BaseException as error:
            fail_all(asks, error, self._freshness.marks)  # nobody waits for an answer that cannot come
            raise
        else:
            kept = [ask.keep(reading) for ask in missing if ask.vouched and ask.keep is not None]
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


def _shared_out(
    parts: Sequence[Part], gets: Sequence[Get], asks: list[Ask]
) -> Iterable[tuple[Part, Sequence[Get], list[Ask]]]:
    """Who waits for which part."""
    if len(parts) == 1:
        return [(parts[0], gets, asks)]
    place = {key: number for number, part in enumerate(parts) for key in part.raws}
    shared: list[tuple[Part, list[Get], list[Ask]]] = [(part, [], []) for part in parts]
    for get in gets:
        shared[place[get.entry_key]][1].append(get)
    for ask in asks:
        shared[place[ask.entry_key]][2].append(ask)
    return shared


def _weigh(weight: Weight, parts: Iterable[Part]) -> None:
    for part in parts:
        sizes = [len(raw) for raw in part.raws.values() if raw is not None]
        weight.saw(sum(sizes), len(sizes))


def _unanswered(gets: Iterable[Get]) -> list[Ask]:
    return [get.ask() for get in gets if not get.done()]


def _bypassing(asks: Sequence[Ask]) -> Sequence[Ask]:
    for ask in asks:
        ask.how = "bypass"
    return asks
