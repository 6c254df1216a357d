"""What the auditor has counted: of each resource and kind, altogether and in the last hour."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias

from neverstale.catalog.declarations import KIND_NAMES
from neverstale.ops.auditor.nines import at_most, nines

Kind: TypeAlias = str
"""One of `KINDS`."""
_CALLED: Final = {"lists": "pages"}
"""A list is audited page by page."""


def audited_as(kind: str) -> Kind:
    """What the catalog calls so."""
    return _CALLED.get(kind, kind)


KINDS: Final[tuple[Kind, ...]] = ("documents", *map(audited_as, KIND_NAMES))
WINDOWS: Final = (0.1, 1.0, 2.0, 10.0)
"""Seconds: an answer is stale at a window if it misses a change that could be read that long before the question."""
HOUR_SECONDS: Final = 3600
BUCKET_SECONDS: Final = 60

About: TypeAlias = tuple[str, Kind]
"""Resource, kind."""


@dataclass(slots=True)
class AuditCounts:
    checked: int = 0
    """Answers that could be judged."""
    stale: list[int] = field(default_factory=lambda: [0] * len(WINDOWS))
    """For each window, how many of them were stale."""
    broken: int = 0
    """That missed what their own bound promised."""
    untrue: int = 0
    """That showed what MongoDB did not hold at the version that they stated."""
    permanent: int = 0
    """Broken or untrue ones that were the same when they were asked for again."""
    undecided: int = 0
    """That changed too fast, or whose past MongoDB no longer keeps. They are not among the checked."""
    unanswered: int = 0
    """The cache held nothing, or the API did not answer. Neither are these."""
    worst_age: float = 0.0
    """Seconds from when a change could be read to the latest question whose answer missed it."""

    @property
    def wrong(self) -> int:
        return self.broken + self.untrue

    def add(self, other: Self) -> None:
        self.checked += other.checked
        self.stale = [mine + theirs for mine, theirs in zip(self.stale, other.stale, strict=True)]
        self.broken += other.broken
        self.untrue += other.untrue
        self.permanent += other.permanent
        self.undecided += other.undecided
        self.unanswered += other.unanswered
        self.worst_age = max(self.worst_age, other.worst_age)

    def note_age(self, age: float) -> None:
        for place, window in enumerate(WINDOWS):
            self.stale[place] += age > window
        self.worst_age = max(self.worst_age, age)

    def as_json(self) -> dict[str, Any]:
        """With the nines of answers that keep their bounds, and of answers that are not stale at each window."""
        return {
            "checked": self.checked,
            "wrong": self.wrong,
            "nines": nines(self.wrong, self.checked),
            "wrong_at_most": at_most(self.wrong, self.checked),
            "broke_their_bound": self.broken,
            "untrue": self.untrue,
            "permanent": self.permanent,
            "stale": {
                f"{window:g}": {"count": stale, "nines": nines(stale, self.checked)}
                for window, stale in zip(WINDOWS, self.stale, strict=True)
            },
            "worst_age_seconds": round(self.worst_age, 3),
            "undecided": self.undecided,
            "unanswered": self.unanswered,
        }

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Self:
        """Raises `LookupError`, `TypeError` and `ValueError` for what is none."""
        return cls(
            checked=int(told["checked"]),
            stale=[int(told["stale"][f"{window:g}"]["count"]) for window in WINDOWS],
            broken=int(told["broke_their_bound"]),
            untrue=int(told["untrue"]),
            permanent=int(told["permanent"]),
            undecided=int(told["undecided"]),
            unanswered=int(told["unanswered"]),
            worst_age=float(told["worst_age_seconds"]),
        )


def total(some: Iterable[AuditCounts]) -> AuditCounts:
    found = AuditCounts()
    for one in some:
        found.add(one)
    return found


class Ledger:
    """AuditCounts since the beginning, and by minute for an hour. Times are wall seconds."""

    def __init__(self) -> None:
        self.all: dict[About, AuditCounts] = {}
        self._minutes: deque[tuple[float, dict[About, AuditCounts]]] = deque()

    def add(self, about: About, found: AuditCounts, now: float) -> None:
        self.all.setdefault(about, AuditCounts()).add(found)
        if not self._minutes or now - self._minutes[-1][0] >= BUCKET_SECONDS:
            self._minutes.append((now, {}))
        self._minutes[-1][1].setdefault(about, AuditCounts()).add(found)

    def last_hour(self, now: float) -> dict[About, AuditCounts]:
        while self._minutes and now - self._minutes[0][0] > HOUR_SECONDS:
            self._minutes.popleft()
        found: dict[About, AuditCounts] = {}
        for _, minute in self._minutes:
            for about, counts in minute.items():
                found.setdefault(about, AuditCounts()).add(counts)
        return found

    def since(self, now: float) -> float:
        """When the hour that `last_hour` tells of began."""
        return self._minutes[0][0] if self._minutes else now

    def restore(self, since: float, found: Mapping[About, AuditCounts]) -> None:
        """What an auditor before this one has told of its last hour counts as counted at its beginning."""
        self._minutes.appendleft((since, {about: total((counts,)) for about, counts in found.items()}))
