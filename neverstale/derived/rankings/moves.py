"""What a batch moves in one ranking."""

from collections import defaultdict
from collections.abc import Callable
from operator import itemgetter

from neverstale.derived.facts import Facts, Pick
from neverstale.derived.figures import SortedMoves
from neverstale.derived.groups import combinations
from neverstale.derived.rankings.members import member_of


class Moves:
    """In one ranking."""

    def __init__(self, by: Pick, score: int, moves: SortedMoves, set_of: Callable[[str], bytes]) -> None:
        """`score`: the place of the fact. `set_of`: the sorted set of a group."""
        self.sets: dict[str, bytes] = {}
        """Group -> its sorted set."""
        self.scores: defaultdict[bytes, list[tuple[bytes, str]]] = defaultdict(list)
        """Sorted set -> member, score; empty to remove it."""
        self.beyond = 0
        """Documents more that are in no sorted set, because they are beyond a bound."""
        self._set_of = set_of
        self._take(by, itemgetter(score), moves)

    def _take(self, by: Pick, score: Callable[[Facts], str], moves: SortedMoves) -> None:
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
            known = self.sets[group] = self._set_of(group)
        return known
