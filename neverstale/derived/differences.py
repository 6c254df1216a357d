"""Differences: what a batch takes from and adds to one counter, or moves in one ranking."""

from collections.abc import Iterator

from neverstale.derived.contributions import limbs
from neverstale.derived.groups import combinations
from neverstale.derived.members import member_of
from neverstale.derived.names import BEYOND, GenerationNames
from neverstale.derived.shape import UNSUMMABLE, CounterShape, Facts, RankingShape

_NUMBERS, _LOW, _HIGH, _UNSUMMABLE = range(4)
"""Places of what is added for each sum; see `neverstale.derived.counters` for the fields."""
_KINDS = "mlhu"


class Differences:
    """Of one counter."""

    def __init__(self, shape: CounterShape, key: bytes) -> None:
        self.key = key
        self._shape = shape
        self._by_group: dict[Facts, list[int]] = {}
        """Facts that make the group -> documents, then four for each sum."""

    def add(self, before: Facts | None, after: Facts | None) -> None:
        """Take away what a document counted for, and add what it counts for."""
        by, sums = self._shape.by, self._shape.sums
        old = by(before) if before is not None else None
        new = by(after) if after is not None else None
        had = sums(before) if before is not None else ()
        has = sums(after) if after is not None else ()
        if old == new:
            if new is not None and had != has:
                totals = self._totals(new, len(has))
                self._sum(totals, had, -1)
                self._sum(totals, has, 1)
            return
        if old is not None:
            self._count(old, had, -1)
        if new is not None:
            self._count(new, has, 1)

    def _count(self, group: Facts, sums: Facts, sign: int) -> None:
        totals = self._totals(group, len(sums))
        totals[0] += sign
        if sums:
            self._sum(totals, sums, sign)

    def _totals(self, group: Facts, sums: int) -> list[int]:
        totals = self._by_group.get(group)
        if totals is None:
            totals = self._by_group[group] = [0] * (1 + len(_KINDS) * sums)
        return totals

    def _sum(self, totals: list[int], sums: Facts, sign: int) -> None:
        at = 1
        for fact in sums:
            if fact == UNSUMMABLE:
                totals[at + _UNSUMMABLE] += sign
            elif fact:
                high, low = limbs(int(fact))
                totals[at + _NUMBERS] += sign
                totals[at + _LOW] += sign * low
                totals[at + _HIGH] += sign * high
            at += len(_KINDS)

    def fields(self) -> Iterator[tuple[str | bytes, int]]:
        """Fields of the counter's hash and what is added to them."""
        added: dict[str | bytes, int] = {}
        for facts, totals in self._by_group.items():
            for name, amount in zip(self._prefixes(len(totals)), totals, strict=True):
                if amount:
                    for group in combinations(facts) or ():
                        added[name + group] = added.get(name + group, 0) + amount
            if combinations(facts) is None and totals[0]:
                added[BEYOND] = added.get(BEYOND, 0) + totals[0]
        return ((field, amount) for field, amount in added.items() if amount)

    def _prefixes(self, count: int) -> list[str]:
        return ["n|", *(f"{kind}{i}|" for i in range(count // len(_KINDS)) for kind in _KINDS)]


class Moves:
    """Of one ranking."""

    def __init__(self, shape: RankingShape, names: GenerationNames) -> None:
        self.sizes = names.sizes(shape.name)
        self.sets: dict[bytes, str] = {}
        """Sorted set -> its group."""
        self.scores: list[tuple[bytes, bytes, str]] = []
        """Sorted set, member, score; empty to remove it."""
        self.beyond = 0
        """Documents more that are in no sorted set, because they are beyond a bound."""
        self._shape = shape
        self._names = names

    def add(self, key: str, before: Facts | None, after: Facts | None) -> None:
        """Move a document from where it was to where it is."""
        by, score = self._shape.by, self._shape.score
        was = before[score] if before is not None else ""
        now = after[score] if after is not None else ""
        old = combinations(by(before)) if before is not None and was else ()
        new = combinations(by(after)) if after is not None and now else ()
        if old == new and was == now:
            return
        self.beyond += (new is None) - (old is None)
        member = member_of(key)
        for group in old or ():
            if group not in (new or ()):
                self._score(group, member, "")
        for group in new or ():
            self._score(group, member, now)

    def _score(self, group: str, member: bytes, score: str) -> None:
        key = self._names.ranking(self._shape.name, group)
        self.sets[key] = group
        self.scores.append((key, member, score))
