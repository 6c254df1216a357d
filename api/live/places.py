"""Places: how many streams there may be at once, of one process and of one caller."""

from collections.abc import Callable
from functools import partial
from typing import Any

from neverstale.api.callers.addresses import of_peer
from neverstale.api.callers.middleware import visit_of
from neverstale.api.web.problems import Problem
from neverstale.role import telemetry
from neverstale.settings import LiveSettings

RETRY: dict[str, str] = {"retry-after": "5"}


class StreamPlaces:
    """The places of one process."""

    def __init__(self, settings: LiveSettings) -> None:
        self._most = settings.streams
        self._most_of_one = settings.streams_per_caller
        self._taken = 0
        self._of: dict[bytes, int] = {}

    def take(self, scope: Any) -> Callable[[], None]:
        """A place for this request's caller; returns what gives it back, to be called once. Raises a `Problem`."""
        caller = visit_of(scope).badge.bucket or of_peer(scope.get("client"))
        self._check(caller)
        self._taken += 1
        self._of[caller] = self._of.get(caller, 0) + 1
        return partial(self._give_back, caller)

    def _give_back(self, caller: bytes) -> None:
        self._taken -= 1
        self._of[caller] -= 1
        if not self._of[caller]:
            del self._of[caller]

    def _check(self, caller: bytes) -> None:
        if not self._most:
            detail = "Live reads are switched off: live.streams = 0. Ask again and again instead, with If-None-Match."
            raise Problem(403, "switched-off", "Switched off", detail)
        if self._most_of_one and self._of.get(caller, 0) >= self._most_of_one:
            telemetry.LIVE_ENDED.labels("caller_full").inc()
            detail = (
                f"This caller has {self._most_of_one} live reads open, and may have no more "
                "(live.streams_per_caller). Close some, or watch a list or a counter instead of many documents. "
                "Behind a proxy all callers look like one, unless limits.trusted_proxies or limits.key_header tells "
                "them apart."
            )
            raise Problem(429, "too-many-streams", "Too many streams", detail, RETRY)
        if self._taken >= self._most:
            telemetry.LIVE_ENDED.labels("full").inc()
            detail = (
                f"This process has {self._most} live reads open, and may have no more (live.streams). Try again, "
                "which may lead to another process, or ask without Accept: text/event-stream."
            )
            raise Problem(503, "too-many-streams", "Too many streams", detail, RETRY)
