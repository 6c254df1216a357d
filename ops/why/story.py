"""The story of one document: what MongoDB has, what Redis holds, what changed last, what the API answers.

What follows from that, `neverstale.ops.why.verdict` says; how a person reads it, `neverstale.ops.why.spoken`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from neverstale.ops.why.held import Held
from neverstale.ops.why.last_change import LastChange, Searched

State = Literal["missing", "lease", "data", "absent", "stale"]
FRESH: Final = ("data", "absent")
ABSENT: Final = "0" * 16
"""The digest of no document."""


@dataclass(frozen=True, slots=True)
class InMongoDB:
    problem: str | None
    present: bool | None = None
    version: str | None = None
    digest: str | None = None
    kept: bool = True
    """Whether anything tells of changes of it."""
    at_watermark: str | None = None
    """Digest of the state at the watermark, if that was asked for."""


@dataclass(frozen=True, slots=True)
class InRedis:
    problem: str | None
    state: State = "missing"
    version: str | None = None
    digest: str | None = None
    read_since_fill: bool = False
    left_ms: int | None = None
    """Until it ends by itself."""
    floor: str | None = None
    applied: str | None = None
    watermark: str | None = None
    age_ms: int | None = None
    """Of the watermark."""
    reached: int | None = None
    """Offset up to which the partition is applied to this Redis."""
    cell: str = ""
    """In which it lies: a hash tag; empty: all is one cell."""

    @property
    def is_answer(self) -> bool:
        """Whether a reader would be given it."""
        known = self.floor is not None and self.version is not None
        return self.state in FRESH and known and str(self.version) >= str(self.floor)


@dataclass(frozen=True, slots=True)
class Partition:
    number: int
    owner: str | None
    """Which consumer has it now."""
    committed: int | None
    by: str
    """Which consumer has committed last."""
    lag: int | None


@dataclass(frozen=True, slots=True)
class Story:
    resource: str
    key: str
    canonical: str
    mongodb: InMongoDB
    redis: InRedis
    partition: Partition | None
    searched: Searched | None
    """`None`: Kafka could not be asked."""
    held: Sequence[Held]
    stands: bool = False
    """The watermark is older than any takeover lasts."""

    @property
    def change(self) -> LastChange | None:
        return self.searched.found if self.searched is not None else None

    @property
    def change_is_applied(self) -> bool | None:
        """`None`: unknown."""
        if self.change is None or self.redis.reached is None:
            return None
        return self.change.offset < self.redis.reached
