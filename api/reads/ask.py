"""One key that one request asks for, until it is answered."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

from prometheus_client import Counter

from api.freshness.bound import Bounds
from api.reads.answer import ANYTHING, Answer, How, Wish
from api.reads.l1 import Reading
from api.reads.source import AnySource, Place
from neverstale.errors import NeverstaleError
from neverstale.mongodb.loader import Snapshot
from neverstale.redis.entries import Entry
from neverstale.role import telemetry
from neverstale.versions import Version


class Reply(Protocol):
    """Where an answer goes: what is used of a future."""

    def done(self) -> bool: ...

    def set_result(self, result: Answer, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...

    def cancel(self) -> bool: ...


@dataclass(slots=True, eq=False)
class Ask:
    source: AnySource
    key: Any
    canonical: str
    entry_key: bytes
    future: Reply
    wish: Wish = ANYTHING
    place: Place | None = None
    how: How = "miss"
    """Why the cache did not answer, once that is known."""
    held: Answer | None = None
    """What the cache holds although it may not answer; for `stale_if_error_seconds`."""
    stale_since: Version = 0
    """The asker saw in Redis that everything older than this is stale, or has seen this version there."""
    collapsed: bool = False
    """Waits for a read that another request began."""
    one_of_many: bool = False
    """Its caller asks for others, too, and holds all answers until the last one is there."""
    vouched: bool = False
    """Its answer was read for it, and misses nothing that was applied before: it may be kept."""
    keep: Callable[[Reading | None], bool] | None = None
    """Keeps the answer in memory if it is one that Redis does not take; whether it is."""

    @property
    def needs(self) -> Version:
        """The least version of an answer from MongoDB."""
        return max(self.wish.min_version, self.stale_since)

    @property
    def holds_document(self) -> bool:
        """The cache holds a body, though it may not answer."""
        return self.held is not None and self.held.body is not None

    @property
    def is_demanded(self) -> bool:
        """MongoDB is read because of what the caller demands: otherwise the cache, or another's read, would do."""
        return self.how != "bypass" and self.wish.demands

    def settle(self, answer: Answer) -> None:
        """Answer, unless the client has gone."""
        _reads(self.source.name, answer.how).inc()
        if not self.future.done():
            self.future.set_result(answer)

    def settle_from(self, snapshot: Snapshot) -> None:
        """Answer with what MongoDB held at a version, which must be at least what the ask needs."""
        key, version = self.canonical, snapshot.version
        body, etag = snapshot.bodies.get(key), snapshot.etag(key)
        complete = version if snapshot.kind.bounded else 0
        self.settle(Answer(body, etag, version, complete, self.how, "mongodb", self.collapsed))

    def met_by(self, version: Version, marks: Bounds) -> bool:
        """Whether a state of MongoDB at `version` will do.

        A read that was issued for this very request is as young as can be; one that began earlier may be too old.
        """
        if version < self.needs:
            return False
        limit = self.wish.max_age_seconds
        if limit is None or not self.collapsed:
            return True
        bound = marks.bound(version)
        return bound is not None and bound <= limit

    def found(self, entry: Entry, marks: Bounds) -> bool:
        """Answer with an entry that somebody else has filled meanwhile, if it will do."""
        self.collapsed = True
        if not self.met_by(entry.version, marks):
            return False
        self.settle(Answer(entry.body, entry.etag, entry.version, entry.version, self.how, "l2", collapsed=True))
        return True

    def refuse(self, error: NeverstaleError) -> None:
        """Answer with the error, whatever is held."""
        if not self.future.done():
            self.future.set_exception(error)

    def fail(self, error: BaseException, marks: Bounds) -> None:
        """Answer with what is held, if the caller allows that; else with the error."""
        if self.future.done():
            return
        if (stale := self._stale_answer(self.wish.stale_if_error_seconds, marks)) is not None:
            self.settle(replace(stale, how="stale", failed=True))
        elif isinstance(error, asyncio.CancelledError):
            self.future.cancel()
        else:
            self.future.set_exception(error)

    def settle_while_revalidating(self, limit_seconds: int, marks: Bounds) -> bool:
        """Answer with the stale body that is held, if it is known to be at most so old and the caller asks no more.

        How old: a body misses no change up to the version it was read at. Of the changes that it does miss only the
        last one's version is known; so the bound counts from when the body was read, and is never too small.
        """
        wish = self.wish
        if not limit_seconds or wish.no_cache or self.how != "stale":
            return False
        limit = limit_seconds if wish.max_age_seconds is None else min(limit_seconds, wish.max_age_seconds)
        answer = self._stale_answer(limit, marks)
        if answer is not None:
            self.settle(answer)
        return answer is not None

    def _stale_answer(self, limit: float | None, marks: Bounds) -> Answer | None:
        held = self.held
        if limit is None or held is None or held.complete < self.wish.min_version:
            return None
        bound = marks.bound(held.complete)
        return None if bound is None or bound > limit else held


@cache
def _reads(source: str, how: How) -> Counter:
    return telemetry.READS.labels(source, how)


def fail_all(asks: Iterable[Ask], error: BaseException, marks: Bounds) -> None:
    for ask in asks:
        ask.fail(error, marks)
