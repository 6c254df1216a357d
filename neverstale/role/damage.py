"""Damage: what lies in Redis under our names, or is heard on our channel, and is not ours or cannot be true.

A neighbour may have written it, another release, a person with `redis-cli`, a bug. It is treated like input from a
stranger: it costs a miss, a void or an honest "unknown", is told of, and consumers put right what they keep. What
cannot be true above all is a version that MongoDB has not reached: nobody believes it, nobody asks MongoDB for a
state that late, and nobody writes it on.

What Redis refuses our user is told of here, too: whoever met it may have gone another way, and would tell nobody.
"""

import re
from collections.abc import Callable
from typing import Final, Literal

from neverstale.role import telemetry
from neverstale.role.log_repetitions import Seldom
from neverstale.role.service import Health
from neverstale.versions import LATEST, Version, is_hex

log = telemetry.logger(__name__)

What = Literal[
    "account", "announcement", "audit", "derived", "entry", "key", "partitions", "reads", "register", "watermark"
]
PART: Final = "redis_data"
"""In `/readyz`."""
RIGHTS: Final = "redis_rights"
"""The same, of what our user may not do."""
REFUSALS_TOLD: Final = 64
"""Of those that differ: there is one for each command, key and channel."""
MOST_PARTITIONS: Final = 10_000
"""Of a topic. Nobody loops over a larger number, whoever wrote it."""
LATEST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""
LONGEST_SHOWN: Final = 80

_CLAIM: Final = re.compile(rb"\?[0-9a-f]{16}:[0-9a-f]{16}")


class Damage:
    """Notes the damage that one process meets.

    `latest` returns the latest version that can be true now; damage is shown in `health`.
    """

    def __init__(self, latest: Callable[[], Version] = lambda: LATEST, health: Health | None = None) -> None:
        self.latest = latest
        self._health = health
        self._complaints: dict[What, Seldom] = {}
        self._refusals: dict[str, Seldom] = {}

    def met(self, what: What, detail: object) -> None:
        """Tell of it: in the metric each time, in the log and in `/readyz` once in a while."""
        telemetry.DAMAGED.labels(what).inc()
        complaint = self._complaints.get(what)
        if complaint is None:
            complaint = self._complaints[what] = Seldom()
        if times := complaint.due():
            text = shown(detail)
            log.warning(
                "damaged", what=what, detail=text, times=times, remedy="keep neighbours out, see docs/operations.md"
            )
            if self._health is not None:
                self._health.note(PART, f"{what}: {text}")

    def refused(self, reason: str) -> None:
        """Tell what our user lacks on Redis, and the remedy: each in the log and in `/readyz` once in a while."""
        if reason not in self._refusals and len(self._refusals) >= REFUSALS_TOLD:
            self._refusals.clear()
        if times := self._refusals.setdefault(reason, Seldom()).due():
            log.warning("redis_refuses", reason=reason, times=times)
            if self._health is not None:
                self._health.note(RIGHTS, reason)

    def version(self, what: What, raw: bytes) -> Version | None:
        """The version that these bytes spell; `None`: none, or one that cannot be true, which is told of."""
        if not is_hex(raw):
            self.met(what, raw)
            return None
        version = int(raw, 16)
        if version > self.latest():
            self.met(what, f"version {raw.decode()} lies ahead of MongoDB's clock")
            return None
        return version

    def is_ahead(self, wall_ms: int) -> bool:
        """Whether no clock of this cluster can have shown this time. No version is behind the primary's clock."""
        return wall_ms // 1000 > self.latest() >> 32

    def register(self, raw: bytes | None) -> Version | None:
        """A register's version; missing, being established and damaged all mean unknown."""
        if raw is None or _CLAIM.fullmatch(raw) is not None:
            return None
        return self.version("register", raw)


def shown(detail: object) -> str:
    """What somebody else wrote, short enough to be told of."""
    text = detail if isinstance(detail, str) else repr(detail)
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…"
