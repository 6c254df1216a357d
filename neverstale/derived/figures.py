"""Figures: what Redis itself holds for readers, such as counters and rankings, and what a batch does to them.

All documents of a batch at once, since most of the work on each of them is then done by `map` and `Counter`.
"""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from neverstale.derived.facts import Facts
from neverstale.derived.kinds.kept import Kept
from neverstale.derived.redis_names import GenerationNames

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


@dataclass(frozen=True, slots=True)
class FigureChange:
    """What a batch does to one figure. `contribute.lua` applies it."""

    counts: Sequence[tuple[bytes, str | bytes, int]] = ()
    """Hash, field, and what is added to it; a field at zero vanishes."""
    sets: Sequence[tuple[bytes, bytes, str]] = ()
    """Sorted set, the hash that counts its members, and the field for that."""
    scores: Collection[tuple[bytes, Sequence[tuple[bytes, str]]]] = ()
    """Sorted set -> member, score; empty to remove it."""
    groups: Collection[str | None] = ()
    """That may say something else; `None`: all of them."""
    unsummable: int = 0
    """Documents more with a number that it cannot hold exactly."""


class FigureShape(Kept):
    """A figure of a generation: what Redis holds of it is what readers are told."""

    __slots__ = ()

    kind: ClassVar[str]
    """As the catalog calls it."""

    @abstractmethod
    def change(self, names: GenerationNames, moves: SortedMoves) -> FigureChange:
        """What documents take away with the facts that they had, and add with those that they have."""
