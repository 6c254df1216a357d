"""Asks: one key that one request asks for, until it is answered.

There are two kinds, which differ in where the answer goes: to whoever awaits a future (`FutureAsk`), or as bytes to a
connection (`neverstale.api.hits.fast_path.WireAsk`), which takes a hit as Redis holds it.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeAlias

from prometheus_client import Counter

from neverstale.api.freshness.bound import Bounds
from neverstale.api.reads.answer import ANYTHING, Answer, How, Wish
from neverstale.api.reads.l1 import Reading
from neverstale.api.reads.source import Place, Source
from neverstale.errors import NeverstaleError
from neverstale.mongodb.loader import Snapshot
from neverstale.redis.entries import Entry, facts_of_hit
from neverstale.role import telemetry
from neverstale.versions import Version, from_hex

Bound: TypeAlias = Callable[[Version], float | None]
"""Seconds: how old an answer can be that misses nothing up to a version; `None`: unknown."""


class Ask(ABC):
    """One key that one request asks for."""

    __slots__ = (
        "collapsed",
        "entry_key",
        "held",
        "how",
        "key",
        "one_of_many",
        "place",
        "source",
        "stale_since",
        "vouched",
        "wish",
    )

    def __init__(
        self, source: Source, key: Any, wish: Wish = ANYTHING, entry_key: bytes = b"", place: Place | None = None
    ) -> None:
        """`entry_key` and `place`: as `CachedSource.locate` returns them; of what is never cached there are none."""
        self.source = source
        self.key = key
        self.wish = wish
        self.entry_key = entry_key
        self.place = place
        self.how: How = "miss"
        """Why the cache did not answer, once that is known."""
        self.held: Answer | None = None
        """What the cache holds although it may not answer; for `stale_if_error_seconds`."""
        self.stale_since: Version = wish.announced
        """The asker saw in Redis that everything older than this is stale, has seen this version there, or was told
        of it: nothing older may come from MongoDB."""
        self.collapsed = False
        """Waits for a read that another request began."""
        self.one_of_many = False
        """Its caller asks for others, too, and holds all answers until the last one is there."""
        self.vouched = False
        """Its answer was read for it, and misses nothing that was applied before: it may be kept."""

    # --- what is asked

    @property
    def canonical(self) -> str:
        return self.source.canonical(self.key)

    @property
    def needs(self) -> Version:
        """The least version of an answer."""
        return max(self.wish.min_version, self.stale_since)

    @property
    def holds_document(self) -> bool:
        """Whether the cache holds a body, though it may not answer."""
        return self.held is not None and self.held.body is not None

    @property
    def is_demanded(self) -> bool:
        """Whether MongoDB is read only for the caller's demands: otherwise the cache, or another's read, would do."""
        return self.how != "bypass" and self.wish.demands and not self.wish.current

    def met_by(self, answer: Answer, bound: Bound) -> bool:
        """Whether an answer will do.

        What was read from MongoDB for this very ask is as young as can be; all else may be too old for the caller.
        """
        reached = max(answer.version, answer.complete)
        if reached < self.needs:
            return False
        if answer.detail == "mongodb" and not answer.collapsed:
            return True
        if self.wish.no_cache:
            return False
        limit = self.wish.max_age_seconds
        if limit is None:
            return True
        age = bound(reached)
        return age is not None and age <= limit

    # --- how it is settled

    @abstractmethod
    def done(self) -> bool:
        """Whether there is an answer or an error, or nobody waits any more."""

    @abstractmethod
    def set_answer(self, answer: Answer) -> None:
        """Hands an answer over."""

    @abstractmethod
    def set_error(self, error: BaseException) -> None:
        """Hands an error over."""

    @abstractmethod
    def cancel(self) -> None:
        """Says that the process ends before there is an answer."""

    def hit(self, entry: bytes, watermark: Version, reading: Reading | None) -> None:
        """Answers with a current entry. It may be kept in L1 if it was read for this `reading`."""
        if self.done():
            return
        etag, version_text, body = facts_of_hit(entry)
        version = from_hex(version_text)
        self.set_answer(Answer(body, etag, version, max(version, watermark), "hit", "l2"))

    def keep(self, reading: Reading | None) -> bool:
        """Keeps its answer in memory if it is one that Redis does not take; returns whether it is."""
        return False

    def settle(self, answer: Answer) -> None:
        """Answers, unless the client has gone."""
        (telemetry.AUDITED if self.wish.audit else _reads(self.source.name, answer.how)).inc()
        if not self.done():
            self.set_answer(answer)

    def take(self, answer: Answer, bound: Bound) -> bool:
        """Settles for an answer if it will do; returns whether it does."""
        met = self.met_by(answer, bound)
        if met:
            self.settle(answer)
        return met

    def take_snapshot(self, snapshot: Snapshot, bound: Bound) -> bool:
        """Settles for what MongoDB held at a version, if that will do; returns whether it does."""
        key, version = self.canonical, snapshot.version
        body, etag = snapshot.bodies.get(key), snapshot.etag(key)
        complete = version if snapshot.kind.bounded else 0
        answer = Answer(body, etag, version, complete, self.how, "mongodb", self.collapsed)
        if snapshot.refused and (error := snapshot.refused.get(key)) is not None:
            return self._take_refusal(error, answer, bound)
        return self.take(answer, bound)

    def _take_refusal(self, error: NeverstaleError, answer: Answer, bound: Bound) -> bool:
        """Takes the error for an answer: it must be as young as one, and nothing stale is better."""
        met = self.met_by(answer, bound)
        if met:
            self.refuse(error)
        return met

    def take_entry(self, entry: Entry, bound: Bound) -> bool:
        """Settles for an entry that somebody else has filled meanwhile, if it will do; returns whether it does."""
        self.collapsed, version = True, entry.version
        return self.take(Answer(entry.body, entry.etag, version, version, self.how, "l2", collapsed=True), bound)

    def refuse(self, error: NeverstaleError) -> None:
        """Answers with the error, whatever is held."""
        if not self.done():
            self.set_error(error)

    def fail(self, error: BaseException, bounds: Bounds) -> None:
        """Answers with what is held, if the caller allows that; else with the error."""
        if self.done():
            return
        if (stale := self._stale_answer(self.wish.stale_if_error_seconds, bounds)) is not None:
            self.settle(stale._replace(how="stale", failed=True))
        elif isinstance(error, asyncio.CancelledError):
            self.cancel()
        else:
            self.set_error(error)

    def settle_while_revalidating(self, limit_seconds: int, bounds: Bounds) -> bool:
        """Answers with the stale body that is held, if it is known to be at most so old and the caller asks no more.

        How old: a body misses no change up to the version it was read at. Of the changes that it does miss only the
        last one's version is known; so the bound counts from when the body was read, and is never too small.
        """
        wish = self.wish
        if not limit_seconds or wish.no_cache or wish.current or self.how != "stale":
            return False
        limit = limit_seconds if wish.max_age_seconds is None else min(limit_seconds, wish.max_age_seconds)
        answer = self._stale_answer(limit, bounds)
        if answer is not None:
            self.settle(answer)
        return answer is not None

    def _stale_answer(self, limit: float | None, bounds: Bounds) -> Answer | None:
        held = self.held
        if limit is None or held is None or held.complete < self.wish.min_version:
            return None
        bound = bounds.bound(held.complete)
        return None if bound is None or bound > limit else held


class FutureAsk(Ask):
    """Its answer is awaited."""

    __slots__ = ("future",)

    def __init__(
        self, source: Source, key: Any, wish: Wish = ANYTHING, entry_key: bytes = b"", place: Place | None = None
    ) -> None:
        super().__init__(source, key, wish, entry_key, place)
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        return self.future.done()

    def set_answer(self, answer: Answer) -> None:
        self.future.set_result(answer)

    def set_error(self, error: BaseException) -> None:
        self.future.set_exception(error)

    def cancel(self) -> None:
        self.future.cancel()


@cache
def _reads(source: str, how: How) -> Counter:
    return telemetry.READS.labels(source, how)


def fail_all(asks: Iterable[Ask], error: BaseException, bounds: Bounds) -> None:
    """Answers all of them that wait still."""
    for ask in asks:
        ask.fail(error, bounds)


def bypassing(asks: Sequence[Ask]) -> Sequence[Ask]:
    """Notes that the cache cannot be asked; returns the same asks."""
    for ask in asks:
        ask.how = "bypass"
    return asks
