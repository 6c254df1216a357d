"""Differences: what a batch takes from and adds to one counter, or moves in one ranking.

All documents of a batch at once, since most of the work on each of them is then done by `map` and `Counter`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from neverstale.derived.contributions import LIMB, limbs
from neverstale.derived.groups import combinations
from neverstale.derived.members import member_of
from neverstale.derived.names import BEYOND, GenerationNames
from neverstale.derived.shape import UNSUMMABLE, CounterShape, Facts, RankingShape

_NUMBERS, _LOW, _HIGH, _UNSUMMABLE = range(4)
"""Places of what is added for each sum; see `neverstale.derived.counters` for the fields."""
_KINDS = "mlhu"

Move = tuple[str, Facts | None, Facts | None]
"""A document's canonical key, the facts that it had and those that it has; `None`: it was or is not there."""


def counted(shape: CounterShape, lost: Sequence[Facts], gained: Sequence[Facts]) -> Iterator[tuple[str | bytes, int]]:
    """Fields of the counter's hash and what is added to them, if documents with some facts go and others come."""
    documents = Counter(map(shape.by, gained))
    documents.subtract(Counter(map(shape.by, lost)))
    added: defaultdict[str | bytes, int] = defaultdict(int)
    for facts, count in documents.items():
        groups = combinations(facts)
        for field in (BEYOND,) if groups is None else ("n|" + group for group in groups):
            added[field] += count
    for facts, totals in _totals(shape, lost, gained).items():
        for name, amount in zip(_prefixes(len(totals)), totals, strict=True):
            for group in combinations(facts) or ():
                added[name + group] += amount
    return ((field, amount) for field, amount in added.items() if amount)


def unsummable_of(fields: Iterable[tuple[str | bytes, int]]) -> int:
    """Of what `counted` says: how many documents more hold a number that a sum cannot."""
    return sum(amount for field, amount in fields if amount > 0 and isinstance(field, str) and field[0] == _KINDS[-1])


def _totals(shape: CounterShape, lost: Sequence[Facts], gained: Sequence[Facts]) -> dict[Facts, list[int]]:
    """Facts that make the group -> what is added, four for each sum."""
    totals: dict[Facts, list[int]] = {}
    if shape.summed:
        _sum(totals, zip(map(shape.by, lost), map(shape.sums, lost), strict=True), -1)
        _sum(totals, zip(map(shape.by, gained), map(shape.sums, gained), strict=True), 1)
    return totals


def _sum(totals: dict[Facts, list[int]], documents: Iterable[tuple[Facts, Facts]], sign: int) -> None:
    for group, sums in documents:
        total = totals.get(group)
        if total is None:
            total = totals[group] = [0] * (len(_KINDS) * len(sums))
        at = 0
        for fact in sums:
            if fact == UNSUMMABLE:
                total[at + _UNSUMMABLE] += sign
            elif fact:
                low = int(fact)
                total[at + _NUMBERS] += sign
                if not -LIMB < low < LIMB:
                    high, low = limbs(low)
                    total[at + _HIGH] += sign * high
                total[at + _LOW] += sign * low
            at += len(_KINDS)


@cache
def _prefixes(count: int) -> list[str]:
    """How the fields of so many totals begin."""
    return [f"{kind}{i}|" for i in range(count // len(_KINDS)) for kind in _KINDS]


class Moves:
    """In one ranking."""

    def __init__(self, shape: RankingShape, names: GenerationNames, moves: Iterable[Move]) -> None:
        self.sizes = names.sizes(shape.name)
        self.sets: dict[str, bytes] = {}
        """Group -> its sorted set."""
        self.scores: defaultdict[bytes, list[tuple[bytes, str]]] = defaultdict(list)
        """Sorted set -> member, score; empty to remove it."""
        self.beyond = 0
        """Documents more that are in no sorted set, because they are beyond a bound."""
        self._name = shape.name
        self._names = names
        self._take(shape, moves)

    def _take(self, shape: RankingShape, moves: Iterable[Move]) -> None:
        by, score = shape.by, shape.score
        for key, before, after in moves:
            was = before[score] if before is not None else ""
            now = after[score] if after is not None else ""
            old = combinations(by(before)) if before is not None and was else ()
            new = combinations(by(after)) if after is not None and now else ()
            if old == new:
                if was != now:
                    for group in new or ():
                        self.scores[self._set(group)].append((member_of(key), now))
                continue
            self.beyond += (new is None) - (old is None)
            for group in old or ():
                if group not in (new or ()):
                    self.scores[self._set(group)].append((member_of(key), ""))
            for group in new or ():
                self.scores[self._set(group)].append((member_of(key), now))

    def _set(self, group: str) -> bytes:
        known = self.sets.get(group)
        if known is None:
            known = self.sets[group] = self._names.ranking(self._name, group)
        return known
