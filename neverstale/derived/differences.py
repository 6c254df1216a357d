"""Differences: what a batch takes from and adds to one counter, or moves in one ranking.

All documents of a batch at once, since most of the work on each of them is then done by `map` and `Counter`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

from neverstale.derived.contributions import LIMB, limbs
from neverstale.derived.groups import combinations
from neverstale.derived.members import member_of
from neverstale.derived.redis_names import BEYOND, GenerationNames
from neverstale.derived.shape import UNSUMMABLE, CounterShape, Facts, Pick, RankingShape

_NUMBERS, _LOW, _HIGH, _UNSUMMABLE = range(4)
"""Places of what is added to a sum; see `neverstale.derived.counters` for the fields."""
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
    for i, place in enumerate(shape.sums):
        sums: Sums = {facts: [0] * len(_KINDS) for facts in documents}
        _sum(sums, shape.by, place, lost, -1)
        _sum(sums, shape.by, place, gained, 1)
        _spread(sums, i, added)
    return ((field, amount) for field, amount in added.items() if amount)


def group_of(field: str | bytes) -> str | None:
    """The group of a counter that a field of `counted` is about; `None`: the whole counter."""
    return field.partition("|")[2] if isinstance(field, str) else None


def unsummable_of(fields: Iterable[tuple[str | bytes, int]]) -> int:
    """Of what `counted` says: how many documents more hold a number that a sum cannot."""
    return sum(amount for field, amount in fields if amount > 0 and isinstance(field, str) and field[0] == _KINDS[-1])


Sums = dict[Facts, list[int]]
"""Of one fact that is summed: facts that make the group -> what is added."""


def _sum(sums: Sums, by: Pick, place: int, documents: Sequence[Facts], sign: int) -> None:
    facts = list(map(itemgetter(place), documents))
    numbers = _small(facts)
    if numbers is None:
        _add_each(sums, map(by, documents), facts, sign)
        return
    for group, number in zip(map(by, documents), numbers, strict=True):
        added = sums[group]
        added[_NUMBERS] += sign
        added[_LOW] += sign * number


def _small(facts: Sequence[str]) -> list[int] | None:
    """The numbers, if all are some, and within the low limb."""
    try:
        numbers = list(map(int, facts))
    except ValueError:
        return None
    return numbers if not numbers or (min(numbers) > -LIMB and max(numbers) < LIMB) else None


def _add_each(sums: Sums, by: Iterable[Facts], facts: Sequence[str], sign: int) -> None:
    for group, fact in zip(by, facts, strict=True):
        added = sums[group]
        if fact == UNSUMMABLE:
            added[_UNSUMMABLE] += sign
        elif fact:
            high, low = limbs(int(fact))
            added[_NUMBERS] += sign
            added[_HIGH] += sign * high
            added[_LOW] += sign * low


def _spread(sums: Sums, i: int, added: defaultdict[str | bytes, int]) -> None:
    """Into the fields of every group; of the counter it is sum number `i`."""
    names = [f"{kind}{i}|" for kind in _KINDS]
    for facts, amounts in sums.items():
        for group in combinations(facts) or ():
            for name, amount in zip(names, amounts, strict=True):
                added[name + group] += amount


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
        stayed: defaultdict[Facts, list[tuple[bytes, str]]] = defaultdict(list)
        for key, before, after in moves:
            was = before[score] if before is not None else ""
            now = after[score] if after is not None else ""
            if before is not None and after is not None and was and now and by(before) == (facts := by(after)):
                if was != now:
                    stayed[facts].append((member_of(key), now))
                continue
            old = combinations(by(before)) if before is not None and was else ()
            new = combinations(by(after)) if after is not None and now else ()
            self._move(member_of(key), old, new, now, is_new=was != now)
        for facts, scores in stayed.items():
            for group in combinations(facts) or ():
                self.scores[self._set(group)] += scores

    def _move(self, member: bytes, old: Facts | None, new: Facts | None, score: str, *, is_new: bool) -> None:
        """A document leaves some groups for others; `None`: it is beyond a bound there."""
        self.beyond += (new is None) - (old is None)
        for group in old or ():
            if group not in (new or ()):
                self.scores[self._set(group)].append((member, ""))
        for group in new or ():
            if is_new or group not in (old or ()):
                self.scores[self._set(group)].append((member, score))

    def _set(self, group: str) -> bytes:
        known = self.sets.get(group)
        if known is None:
            known = self.sets[group] = self._names.ranking(self._name, group)
        return known
