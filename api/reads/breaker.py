"""A breaker: after some failures in a row, do not ask a server for a while.

closed: ask · open: do not ask · half-open: one probe asks, the others do not. Any success closes it.
"""

import time
from collections.abc import Callable

from neverstale.errors import Server
from neverstale.role import telemetry

log = telemetry.logger(__name__)


class Breaker:
    """Every `allows()` that answered true must be followed by `succeeded()` or `failed()`, unless nothing was learnt
    of the server.

    A probe of which nothing is heard holds the others back only as long as the breaker stays open.
    """

    def __init__(
        self, server: Server, failures: int, open_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._limit = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._failures = 0
        self._probe_at: float | None = None
        telemetry.BREAKER_OPEN.labels(server).set(0)

    @property
    def refuses(self) -> bool:
        """Whether `allows()` would answer false now. Takes no probe."""
        return self._probe_at is not None and self._clock() < self._probe_at

    def allows(self) -> bool:
        """Whether to ask the server now."""
        if self._probe_at is None:
            return True
        now = self._clock()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._open_seconds  # this one is the probe
        return True

    def succeeded(self) -> None:
        self._failures = 0
        if self._probe_at is not None:
            self._probe_at = None
            telemetry.BREAKER_OPEN.labels(self._server).set(0)
            log.info("breaker_closed", server=self._server)

    def failed(self) -> None:
        self._failures += 1
        if self._failures < self._limit:
            return
        if self._probe_at is None:
            telemetry.BREAKER_OPEN.labels(self._server).set(1)
            log.warning("breaker_opened", server=self._server, failures=self._failures)
        self._probe_at = self._clock() + self._open_seconds
