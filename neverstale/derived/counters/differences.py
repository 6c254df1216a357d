"""What a batch takes from one counter and adds to it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter, sub

from neverstale.derived.contributions import LIMB, limbs
from neverstale.derived.counters.sums import UNSUMMABLE
from neverstale.derived.facts import Facts, Pick
from neverstale.derived.figures import SortedMoves
from neverstale.derived.groups import combinations
from neverstale.derived.redis_names import BEYOND

_NUMBERS, _LOW, _HIGH, _UNSUMMABLE = range(4)
"""Places of what is added to a sum; see `neverstale.derived.counters.fields`."""
_KINDS = "mlhu"


def counted(by: Pick, summed: Sequence[int], moves: SortedMoves) -> Iterator[tuple[str | bytes, int]]:
    """Fields of the counter's hash and what is added to them, as documents change. `summed`: the places of facts."""
    gone = [before for _, before, _ in moves.others if before is not None]
    come = [after for _, _, after in moves.others if after is not None]
    was, now = list(map(by, moves.before)), list(map(by, moves.after))
    documents = Counter(map(by, come))
    documents.subtract(Counter(map(by, gone)))
    if was != now:
        documents.update(now)
        documents.subtract(Counter(was))
    added: defaultdict[str | bytes, int] = defaultdict(int)
    for facts, count in documents.items():
        groups = combinations(facts)
        for field in (BEYOND,) if groups is None else ("n|" + group for group in groups):
            added[field] += count
    for i, place in enumerate(summed):
        sums: Sums = defaultdict(lambda: [0] * len(_KINDS))
        if was != now or not _sum_stayed(sums, was, place, moves):
            _sum(sums, was, place, moves.before, -1)
            _sum(sums, now, place, moves.after, 1)
        _sum(sums, map(by, gone), place, gone, -1)
        _sum(sums, map(by, come), place, come, 1)
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
