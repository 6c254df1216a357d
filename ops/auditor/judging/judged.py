"""What a judgement says of one answer."""

from dataclasses import dataclass
from typing import Literal

from neverstale.ops.auditor.judging.told import Told, comparable
from neverstale.versions import Version

Verdict = Literal["true", "late", "untrue", "differs", "undecided"]
"""`late`: it misses a change that could be read before it was asked for. `untrue`: MongoDB did not hold this at its
version. `differs`: a counter or ranking, at this moment."""


@dataclass(frozen=True, slots=True)
class Judged:
    told: Told
    verdict: Verdict
    age: float = 0.0
    """Seconds that a missed change could be read before the question was asked, at least."""
    missed: Version | None = None
    """The state at this version holds it."""
    state: bytes | None = None
    """What the answer was compared with in the end."""

    @property
    def broke_its_bound(self) -> bool:
        return self.verdict == "late" and self.told.bound is not None and self.age > self.told.bound

    @property
    def wrong(self) -> bool:
        return self.verdict == "untrue" or self.broke_its_bound


@dataclass(frozen=True, slots=True)
class States:
    """What MongoDB held of some keys."""

    bodies: dict[str, bytes]
    version: Version = 0
    """The latest at which some of it was read."""

    def of(self, told: Told) -> bytes | None:
        return comparable(told.question, self.bodies.get(told.question.canonical))
