"""The shape of a resource's derived data: which facts of a document matter, and what follows from them.

A document's facts (`neverstale.derived.facts`) stand in this order: every field that makes groups; then, kind by
kind, what each needs besides: every list with constants, every sum, every score.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, TypeVar

from neverstale.catalog.declarations import Declarations
from neverstale.derived.facts import Documents, Fact, Facts, GroupFact
from neverstale.derived.figures import FigureShape
from neverstale.derived.groups import meets
from neverstale.derived.kinds.kept import Kept
from neverstale.derived.kinds.table import KINDS
from neverstale.derived.queries import projection
from neverstale.derived.tagged import Effects, Tagged

_EFFECTS: Final = 4096
"""Combinations of changed paths whose effects are remembered."""

KeptT = TypeVar("KeptT", bound=Kept)


class Shape:
    """What declarations make of a document. Pure; made once for each text of declarations. `KeyError` for a kind that
    is not ours."""

    def __init__(self, declared: Declarations) -> None:
        self.declared = declared
        derivations = list(declared.derivations())
        every = [(KINDS[one.kind], one.name, one.declared) for one in derivations]
        grouping = [GroupFact(path) for _, _, one in every for path in one.by]
        others = [fact for kind, name, one in every for fact in kind.facts(name, one)]
        self._facts: tuple[Fact, ...] = tuple(dict.fromkeys((*grouping, *others)))
        self.group_paths: tuple[str, ...] = tuple(dict.fromkeys(fact.path for fact in grouping))
        """Paths whose facts make groups, in the order of the facts."""
        places = {fact: place for place, fact in enumerate(self._facts)}
        self.all: tuple[Kept, ...] = tuple(kind.shape(name, one, places, declared.shown) for kind, name, one in every)
        """Everything that is kept, kind by kind."""
        self.by_name: Mapping[str, Kept] = {
            one.full_name: kept for one, kept in zip(derivations, self.all, strict=True)
        }
        """By its full name, such as `lists.departures`."""
        self.tagged: tuple[Tagged, ...] = self.of(Tagged)
        self.figures: tuple[FigureShape, ...] = self.of(FigureShape)  # type: ignore[type-abstract]
        self._effects: dict[tuple[str, ...] | None, Effects] = {}

    def of(self, kept: type[KeptT]) -> tuple[KeptT, ...]:
        """Everything that is kept so."""
        return tuple(one for one in self.all if isinstance(one, kept))

    @cached_property
    def paths(self) -> frozenset[str]:
        """Every path that a contribution depends on: what consumers read."""
        return frozenset(path for fact in self._facts for path in fact.paths)

    @cached_property
    def projection(self) -> dict[str, int]:
        """Of a `find` that reads the facts."""
        return {"_id": 1, **projection(self.paths)}

    def concerns(self, changed: Sequence[str] | None) -> bool:
        """Whether a change of these paths (`None`: all) can change anything derived."""
        return self.effects(changed).concern

    def _concern(self, changed: Sequence[str] | None) -> bool:
        if changed is None or not self.paths.isdisjoint(changed):
            return True
        if any(meets(path, used) for path in changed for used in self.paths):
            return True
        return any(one.affected_by(changed) for one in self.tagged)

    def effects(self, changed: Sequence[str] | None) -> Effects:
        """What a change of these paths (`None`: all) means."""
        key = None if changed is None else tuple(changed)
        known = self._effects.get(key)
        if known is None:
            tagged = tuple(one.effect(changed) for one in self.tagged)
            names = any(effect.touches and effect.names for effect in tagged)
            known = Effects(tagged, names, self._concern(changed))
            if len(self._effects) < _EFFECTS:
                self._effects[key] = known
        return known

    def facts(self, documents: Documents) -> list[Facts]:
        """The facts of each document: what its contribution holds besides the version. Fact by fact."""
        columns = [fact.of(documents) for fact in self._facts]
        if not columns:
            return [("",)] * len(documents)  # as a contribution without facts is read
        return list(zip(*columns, strict=True))
