"""Differences: what a batch takes from and adds to one counter, or moves in one ranking.

All documents of a batch at once, since most of the work on each of them is then done by `map` and `Counter`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter, sub
from typing import NamedTuple

from neverstale.derived.contributions import LIMB, limbs
from neverstale.derived.groups import combinations
from neverstale.derived.rankings.members import member_of
from neverstale.derived.redis_names import BEYOND, GenerationNames
from neverstale.derived.shape import UNSUMMABLE, CounterShape, Facts, RankingShape

_NUMBERS, _LOW, _HIGH, _UNSUMMABLE = range(4)
"""Places of what is added to a sum; see `neverstale.derived.counters.fields` for the fields."""
_KINDS = "mlhu"

Move = tuple[str, Facts | None, Facts | None]
"""A document's canonical key, the facts that it had and those that it has; `None`: it was or is not there."""


class SortedMoves(NamedTuple):
    """Documents whose facts changed: those that were there before and after, in columns, and the others."""

    keys: Sequence[str]
    before: Sequence[Facts]
    after: Sequence[Facts]
    others: Sequence[Move]


def sorted_out(moves: Sequence[Move]) -> SortedMoves:
    stayed = [move for move in moves if move[1] is not None and move[2] is not None]
    others = [move for move in moves if move[1] is None or move[2] is None] if len(stayed) < len(moves) else ()
    keys, before, after = zip(*stayed, strict=True) if stayed else ((), (), ())
    return SortedMoves(keys, before, after, others)


def counted(shape: CounterShape, moves: SortedMoves) -> Iterator[tuple[str | bytes, int]]:
    """Fields of the counter's hash and what is added to them, as documents change."""
    gone = [before for _, before, _ in moves.others if before is not None]
    come = [after for _, _, after in moves.others if after is not None]
    was, now = list(map(shape.by, moves.before)), list(map(shape.by, moves.after))
    documents = Counter(map(shape.by, come))
    documents.subtract(Counter(map(shape.by, gone)))
    if was != now:
        documents.update(now)
        documents.subtract(Counter(was))
    added: defaultdict[str | bytes, int] = defaultdict(int)
    for facts, count in documents.items():
        groups = combinations(facts)
        for field in (BEYOND,) if groups is None else ("n|" + group for group in groups):
            added[field] += count
    for i, place in enumerate(shape.sums):
        sums: Sums = defaultdict(lambda: [0] * len(_KINDS))
        if was != now or not _sum_stayed(sums, was, place, moves):
            _sum(sums, was, place, moves.before, -1)
            _sum(sums, now, place, moves.after, 1)
        _sum(sums, map(shape.by, gone), place, gone, -1)
        _sum(sums, map(shape.by, come), place, come, 1)
        _spread(sums, i, added)
    return ((field, amount) for field, amount in added.items() if amount)


def group_of(field: str | bytes) -> str | None:
    """The group of a counter that a field of `counted` is about; `None`: the whole counter."""
    return field.partition("|")[2] if isinstance(field, str) else None


def unsummable_of(fields: Iterable[tuple[str | bytes, int]]) -> int:
    """Of what `counted` says: how many documents more hold a number that a sum cannot."""
    return sum(amount for field, amount in fields if amount > 0 and isinstance(field, str) and field[0] == _KINDS[-1])


Sums = defaultdict[Facts, list[int]]
"""Of one fact that is summed: facts that make the group -> what is added."""


def _sum_stayed(sums: Sums, groups: Sequence[Facts], place: int, moves: SortedMoves) -> bool:
    """Documents that stay in their groups: only their numbers change. False: not all of them are small numbers."""
    fact = itemgetter(place)
    was, now = _small(list(map(fact, moves.before))), _small(list(map(fact, moves.after)))
    if was is None or now is None:
        return False
    low: defaultdict[Facts, int] = defaultdict(int)
    for group, more in zip(groups, map(sub, now, was), strict=True):
        low[group] += more
    for group, more in low.items():
        sums[group][_LOW] += more
    return True


def _sum(sums: Sums, groups: Iterable[Facts], place: int, documents: Sequence[Facts], sign: int) -> None:
    facts = list(map(itemgetter(place), documents))
    numbers = _small(facts)
    if numbers is None:
        _add_each(sums, groups, facts, sign)
        return
    for group, number in zip(groups, numbers, strict=True):
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


def _add_each(sums: Sums, groups: Iterable[Facts], facts: Sequence[str], sign: int) -> None:
    for group, fact in zip(groups, facts, strict=True):
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

    def __init__(self, shape: RankingShape, names: GenerationNames, moves: SortedMoves) -> None:
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

    def _take(self, shape: RankingShape, moves: SortedMoves) -> None:
        by, score = shape.by, itemgetter(shape.score)
        stayed: defaultdict[Facts, list[tuple[bytes, str]]] = defaultdict(list)
        columns = (moves.keys, map(by, moves.before), map(by, moves.after))
        scores = (map(score, moves.before), map(score, moves.after))
        for key, old, new, was, now in zip(*columns, *scores, strict=True):
            if was and now and old == new:
                if was != now:
                    stayed[new].append((member_of(key), now))
            else:
                self._leave(key, old if was else None, new if now else None, now, is_new=was != now)
        for key, before, after in moves.others:
            was, now = "" if before is None else score(before), "" if after is None else score(after)
            left = by(before) if before is not None and was else None
            entered = by(after) if after is not None and now else None
            self._leave(key, left, entered, now, is_new=was != now)
        for facts, scored in stayed.items():
            for group in combinations(facts) or ():
                self.scores[self._set(group)] += scored

    def _leave(self, key: str, old: Facts | None, new: Facts | None, score: str, *, is_new: bool) -> None:
        """`None`: it has no rank there."""
        was, now = () if old is None else combinations(old), () if new is None else combinations(new)
        self._move(member_of(key), was, now, score, is_new=is_new)

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
