"""Facts: all that Redis keeps of a document, and all that counts, sums, scores and tags depend on. Each is a text.

A **fact** says how it is told from documents. Those of fields that make groups (`groups.fact`) come first, then what
each kind of what is derived needs besides (`neverstale.derived.kinds`). Equal facts are kept once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, ClassVar, Final, TypeAlias

from neverstale.bson.texts import short_text
from neverstale.derived import groups
from neverstale.derived.groups import at_path, fact_at
from neverstale.role import telemetry

SHORT: Final = 64
"""Strings below so many characters keep their text (`short_text`)."""

Facts = tuple[str, ...]
Documents: TypeAlias = Sequence[Mapping[str, Any]]

log = telemetry.logger(__name__)

Pick = Callable[[Facts], Facts]


def picking(places: Sequence[int]) -> Pick:
    """What takes the facts at these places; compiled, for it runs several times for every change."""
    if not places:
        return lambda facts: ()
    if len(places) == 1:
        return itemgetter(slice(places[0], places[0] + 1))
    pick: Pick = itemgetter(*places)
    return pick


class Fact(ABC):
    """One fact of a document. Frozen: equal ones are one."""

    unknown: ClassVar[str]
    """Of a document of which it cannot be told."""

    @property
    @abstractmethod
    def paths(self) -> tuple[str, ...]:
        """What consumers read for it."""

    @abstractmethod
    def tell(self, documents: Documents) -> list[str]:
        """Of each document. All at once, since what most documents hold is then spelled without a step for each."""

    def of(self, documents: Documents) -> list[str]:
        """Of each document. One that cannot be told, for whatever reason, is unknown of its own document alone."""
        try:
            return self.tell(documents)
        except Exception as error:
            if len(documents) == 1:
                log.error("fact_unknown", of=self.paths, reason=repr(error), exc_info=error)
                return [self.unknown]
            return [fact for one in documents for fact in self.of([one])]


@dataclass(frozen=True, slots=True)
class GroupFact(Fact):
    """The groups that a field makes."""

    unknown: ClassVar[str] = groups.BEYOND
    path: str

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def tell(self, documents: Documents) -> list[str]:
        if "." not in self.path:
            values: list[Any] = [document.get(self.path) for document in documents]
            if set(map(type, values)) == {str} and max(map(len, values)) < SHORT:
                return list(map(short_text, values))
        return [fact_at(document, self.path) for document in documents]


def values_of(documents: Documents, path: str) -> list[Any]:
    """The one value at a path of each; an array of several is no number and no score."""
    if "." not in path:
        return [document.get(path) for document in documents]
    found = [at_path(document, path) for document in documents]
    return [values[0] if len(values) == 1 else None for values in found]
