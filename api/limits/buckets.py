"""How many requests a caller may make: a token bucket in Redis that all processes share.

Asking Redis for every hit in memory would cost more than the hit. So a process takes several tokens at once for a
caller that asks often, and spends them without waiting; a caller that asks rarely has one taken at a time. What a
process holds and does not spend within `HELD_SECONDS` is lost. A refusal is remembered until there is a token again,
so that a flood asks Redis for nothing.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from neverstale import settings
from neverstale.api.reads.breaker import Breaker
from neverstale.api.web.problems import Problem, of_error, too_many_requests
from neverstale.errors import Outage
from neverstale.redis.commands import Commands
from neverstale.role import telemetry
from neverstale.role.tasks import Tasks

HELD_SECONDS: Final = 1.0
QUICK_SECONDS: Final = 0.25
"""Who has used up within this what was taken last gets twice as much."""
SHARE: Final = 4
"""A process holds at most this part of a bucket."""
BUCKETS: Final = 16_384
AWAY_SECONDS: Final = 1.0


@dataclass(slots=True, eq=False)
class Bucket:
    """What this process knows of one caller's. All times are seconds of our clock."""

    caller: bytes
    left: int = 0
    """Tokens that were taken and are not spent."""
    until: float = 0
    """They are lost after this."""
    rest: int = 0
    """Tokens that Redis had left."""
    full_at: float = 0
    refused_until: float = 0
    away: bool = False
    """Refused because Redis is."""
    wanted: int = 1
    asked: float = -math.inf
    asking: asyncio.Future[None] | None = None
    own_full_at: float = 0
    """Of the bucket that stands in while Redis is away."""


@dataclass(frozen=True, slots=True)
class Admission:
    lines: bytes
    """Header lines about the limit."""
    refusal: Problem | None = None


class Buckets:
    """Spends the tokens of all callers of one process. Every method belongs to its event loop."""

    def __init__(
        self,
        redis: Commands,
        breaker: Breaker,
        limits: settings.Limits,
        tasks: Tasks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._breaker = breaker
        self._tasks = tasks
        self._clock = clock
        self._interval = 1 / limits.requests_per_second
        self._size = limits.burst
        self._most = max(min(limits.reserve, limits.burst // SHARE), 1)
        self._closed = limits.without_redis == "closed"
        self._buckets: dict[bytes, Bucket] = {}
        seconds = math.ceil(self._size * self._interval)
        self._policy = b'ratelimit-policy: "default";q=%d;w=%d\r\n' % (self._size, seconds)

    def spendable(self, caller: bytes) -> Bucket | None:
        """The caller's bucket, if a token can be spent without waiting."""
        bucket = self._buckets.get(caller)
        return bucket if bucket is not None and bucket.left > 0 and self._clock() < bucket.until else None

    def spend(self, bucket: Bucket) -> bytes:
        """Spend a token that is there; returns header lines (draft-ietf-httpapi-ratelimit-headers)."""
        bucket.left -= 1
        return self._lines(bucket)

    async def take(self, caller: bytes) -> Admission:
        """Spend a token, if need be after asking Redis."""
        bucket = self._bucket(caller)
        while True:
            now = self._clock()
            if bucket.left > 0 and now < bucket.until:
                return Admission(self.spend(bucket))
            if now < bucket.refused_until:
                return self._refusal(bucket, now)
            if bucket.asking is None:
                bucket.asking = asyncio.get_running_loop().create_future()
                self._tasks.start(self._ask(bucket, bucket.asking), "limit")
            await asyncio.shield(bucket.asking)

    def _bucket(self, caller: bytes) -> Bucket:
        bucket = self._buckets.get(caller)
        if bucket is None:
            if len(self._buckets) >= BUCKETS:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[caller] = Bucket(caller)
        return bucket

    def _refusal(self, bucket: Bucket, now: float) -> Admission:
        if bucket.away:
            return Admission(self._policy, of_error(Outage("redis", "no limit can be kept without it")))
        telemetry.LIMITED.inc()
        return Admission(self._lines(bucket), too_many_requests(bucket.refused_until - now))

    def _lines(self, bucket: Bucket) -> bytes:
        seconds = max(math.ceil(bucket.full_at - self._clock()), 0)
        return b'%bratelimit: "default";r=%d;t=%d\r\n' % (self._policy, bucket.left + bucket.rest, seconds)

    async def _ask(self, bucket: Bucket, asking: asyncio.Future[None]) -> None:
        """Take as many tokens as the caller is likely to spend soon."""
        now = self._clock()
        bucket.wanted = min(2 * bucket.wanted, self._most) if now - bucket.asked < QUICK_SECONDS else 1
        bucket.asked = now
        try:
            taken, rest, full, following = await self._take(bucket)
            now = self._clock()
            bucket.left, bucket.rest, bucket.until = taken, rest, now + HELD_SECONDS
            bucket.full_at = now + full
            if not taken:
                bucket.refused_until = now + following
        finally:
            bucket.asking = None
            asking.set_result(None)

    async def _take(self, bucket: Bucket) -> tuple[int, int, float, float]:
        """Tokens taken and left, and seconds until the bucket is full and until it has a token."""
        bucket.away = False
        if self._breaker.allows():
            key = self._redis.names.limit(bucket.caller)
            try:
                call = await self._redis.call("limit", [key], [repr(self._interval * 1e6), self._size, bucket.wanted])
                ((taken, rest, full, following),) = await self._redis.send(call)
            except Outage:
                self._breaker.failed()
            else:
                self._breaker.succeeded()
                return taken, rest, full / 1e6, following / 1e6
        if self._closed:
            bucket.away = True
            return 0, 0, 0.0, AWAY_SECONDS
        return self._take_here(bucket)

    def _take_here(self, bucket: Bucket) -> tuple[int, int, float, float]:
        """As limit.lua does, but for this process alone: without Redis each allows as much as all together."""
        now = self._clock()
        full_at = max(bucket.own_full_at, now)
        there = math.floor((now + self._size * self._interval - full_at) / self._interval + 1e-6)
        taken = max(min(there, bucket.wanted), 0)
        bucket.own_full_at = full_at = full_at + taken * self._interval
        following = full_at + self._interval - self._size * self._interval - now
        return taken, max(there - taken, 0), full_at - now, max(following, 0)
