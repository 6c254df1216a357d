"""Differences: what a batch takes from and adds to one counter, or moves in one ranking.

All documents of a batch at once, since most of the work on each of them is then done by `map` and `Counter`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

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
    for i in range(shape.summed):
        for facts, totals in _totals(shape, i, lost, gained).items():
            for kind, amount in zip(_KINDS, totals, strict=True):
                for group in combinations(facts) or ():
                    added[f"{kind}{i}|{group}"] += amount
    return ((field, amount) for field, amount in added.items() if amount)


def unsummable_of(fields: Iterable[tuple[str | bytes, int]]) -> int:
    """Of what `counted` says: how many documents more hold a number that a sum cannot."""
    return sum(amount for field, amount in fields if amount > 0 and isinstance(field, str) and field[0] == _KINDS[-1])


def _totals(
    shape: CounterShape, i: int, lost: Sequence[Facts], gained: Sequence[Facts]
) -> defaultdict[Facts, list[int]]:
    """Facts that make the group -> what is added for sum i."""
    totals: defaultdict[Facts, list[int]] = defaultdict(lambda: [0] * len(_KINDS))
    for documents, sign in ((lost, -1), (gained, 1)):
        summed = [facts[i] for facts in map(shape.sums, documents)]
        _sum(totals, list(map(shape.by, documents)), summed, sign)
    return totals


def _sum(totals: defaultdict[Facts, list[int]], groups: Sequence[Facts], summed: Sequence[str], sign: int) -> None:
    for group, fact in zip(groups, summed, strict=True):
        if fact == UNSUMMABLE:
            totals[group][_UNSUMMABLE] += sign
        elif fact:
            total, low = totals[group], int(fact)
            total[_NUMBERS] += sign
            if not -LIMB < low < LIMB:
                high, low = limbs(low)
                total[_HIGH] += sign * high
            total[_LOW] += sign * low


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
            if was == now == "":
                continue
            old = combinations(by(before)) if before is not None and was else ()
            new = combinations(by(after)) if after is not None and now else ()
            if old == new:
                if was != now:
                    member = member_of(key)
                    for group in new or ():
                        self.scores[self._set(group)].append((member, now))
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
