"""The witness of what is wrong: gathers the evidence at once, logs it, and keeps it in Redis and in memory."""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from neverstale.errors import Outage
from neverstale.ops.auditor.judging.judged import Judged
from neverstale.redis import audit
from neverstale.redis.commands import Commands
from neverstale.role import telemetry

log = telemetry.logger(__name__)

SAME_SECONDS: Final = 30.0
"""The same thing is not described again before this."""
A_SECOND: Final = 2
"""Descriptions: each asks Redis and Kafka for some facts."""

Describe = Callable[[Judged], Awaitable[dict[str, Any]]]


class Witness:
    def __init__(self, redis: Commands, describe: Describe, most: int, clock: Callable[[], float] = time.monotonic):
        self.kept: deque[dict[str, Any]] = deque(maxlen=most)
        """The evidence, the last one first."""
        self._redis = redis
        self._describe = describe
        self._most = most
        self._clock = clock
        self._seen: dict[tuple[str, str], float] = {}
        self._last: deque[float] = deque(maxlen=A_SECOND)

    async def saw(self, found: Judged) -> None:
        """An answer that was wrong. Of many at once only some are described."""
        now, name = self._clock(), found.told.question.name
        if now - self._seen.get(name, -SAME_SECONDS) < SAME_SECONDS:
            return
        if len(self._last) == A_SECOND and now - self._last[0] < 1:
            return
        self._last.append(now)
        self._seen = {key: at for key, at in self._seen.items() if now - at < SAME_SECONDS} | {name: now}
        evidence = await self._describe(found)
        self.kept.appendleft(evidence)
        log.error("audit_violation", **evidence)
        try:
            await audit.keep_evidence(self._redis, evidence, self._most)
        except Outage as outage:
            log.warning("audit_evidence_not_stored", reason=outage.reason)
