"""The shape of a resource's derived data: which facts of a document matter, and what follows from them.

A document's **facts** are texts, one for each of, in this order: every field that makes groups (`groups.fact`);
every list with constants (`1` if the document holds them, else empty); every sum (a whole number of 1/10^scale,
empty if the field is not a number, `u` if the sum cannot hold it exactly); every score (a double, empty if the
document has no rank).
They are all that Redis keeps of a document, and all that counts, sums, scores and tags depend on.
"""

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cached_property
from operator import itemgetter, neg
from typing import Any, Final, TypeAlias

from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128

from neverstale.bson.texts import short_text, text_of
from neverstale.catalog.declarations import Declarations
from neverstale.derived import groups
from neverstale.derived.groups import at_path, combinations, fact_at, meets
from neverstale.role import telemetry

UNSUMMABLE: Final = "u"
_WIDE: Final = Context(prec=60, Emax=999_999, Emin=-999_999, traps=[])
_WHOLE: Final = 2**53
SHORT: Final = 64
"""Strings below so many characters keep their text (`short_text`)."""
_EFFECTS: Final = 4096
"""Combinations of changed paths whose effects are remembered."""
LIMIT: Final = 2**63
"""A scaled value must be smaller, either way: then two limbs of 64 bits hold the sum of 2^31 documents."""

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


@dataclass(frozen=True, slots=True)
class ListShape:
    name: str
    by: Pick
    by_paths: tuple[str, ...]
    member: int | None
    """Place of the fact that says whether a document holds the constants; `None`: every document does."""
    used: frozenset[str] | None
    """Paths whose change can change a page; `None`: all."""
    constants: tuple[str, ...]
    """Paths that the list's constants are compared with."""
    seen: Pick
    """All facts that the list depends on."""

    def groups(self, facts: Facts) -> Facts | None:
        """The groups whose pages show a document; `None`: beyond a bound."""
        if self.member is not None and not facts[self.member]:
            return ()
        return combinations(self.by(facts))

    def affected_by(self, changed: Sequence[str] | None) -> bool:
        """Whether a change of these paths (`None`: all) can change a page."""
        if changed is None or self.used is None:
            return True
        if not self.used.isdisjoint(changed):
            return True
        return any(meets(path, used) for path in changed for used in self.used)

    def named_by(self, changed: Sequence[str] | None) -> tuple[int, ...]:
        """Which of the fields that make groups a change of these paths may have changed."""
        if changed is None:
            return tuple(range(len(self.by_paths)))
        return tuple(i for i, path in enumerate(self.by_paths) if any(meets(field, path) for field in changed))

    def entered_by(self, changed: Sequence[str] | None) -> bool:
        """Whether a change of these paths may have made a document hold the constants: then it has come into the
        groups that it was in, whatever those are."""
        return any(changed is None or any(meets(field, path) for field in changed) for path in self.constants)


@dataclass(frozen=True, slots=True)
class CounterShape:
    name: str
    by: Pick
    sums: tuple[int, ...]
    """Places of the facts that are summed."""


@dataclass(frozen=True, slots=True)
class RankingShape:
    name: str
    by: Pick
    score: int
    """Place of the fact that is the score."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change of some paths means for a list."""

    touches: bool
    """Pages may show something else."""
    named: tuple[int, ...]
    """Which of the fields that make groups may have changed."""
    enters: bool
    """The document may have come to hold the list's constants."""
    names: bool
    """Groups that the document may have come into are to be looked for."""


NOTHING: Final = Effect(touches=False, named=(), enters=False, names=False)
"""What a record that is no change means for any list."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What a change of some paths means."""

    lists: tuple[Effect, ...]
    names: bool
    """For some list whose pages it touches, groups that the document may have come into are to be looked for."""
    concern: bool
    """Something derived may change."""


def _effect(one: ListShape, changed: Sequence[str] | None) -> Effect:
    named, enters = one.named_by(changed), one.entered_by(changed)
    return Effect(one.affected_by(changed), named, enters, names=bool(named) or enters or not one.by_paths)


class Shape:
    """What declarations make of a document. Pure; made once for each text of declarations."""

    def __init__(self, declared: Declarations) -> None:
        self.declared = declared
        listed = declared.lists.values()
        grouping = [*listed, *declared.counters.values(), *declared.rankings.values()]
        self.group_paths: tuple[str, ...] = tuple(dict.fromkeys(path for one in grouping for path in one.by))
        """Paths whose facts make groups, in the order of the facts."""
        self._constants = [{path: text_of(value) for path, value in one.where.items()} for one in listed if one.where]
        sums = (one for counter in declared.counters.values() for one in counter.sums.values())
        self._summed = tuple(dict.fromkeys((one.field, one.scale) for one in sums))
        self._scored = tuple(dict.fromkeys((one.path, one.descends) for one in declared.rankings.values()))
        self._place_facts()
        self._effects: dict[tuple[str, ...] | None, Effects] = {}

    def _place_facts(self) -> None:
        place = {path: i for i, path in enumerate(self.group_paths)}
        count = len(place)
        lists = []
        for name, one in self.declared.lists.items():
            member = count if one.where else None
            count += 1 if one.where else 0
            places = [place[path] for path in one.by]
            seen = picking([*places, *([] if member is None else [member])])
            lists.append(ListShape(name, picking(places), one.by, member, self._used(name), tuple(one.where), seen))
        sums = {summed: count + i for i, summed in enumerate(self._summed)}
        scores = {scored: count + len(sums) + i for i, scored in enumerate(self._scored)}
        self.lists: tuple[ListShape, ...] = tuple(lists)
        self.counters: tuple[CounterShape, ...] = tuple(
            CounterShape(
                name,
                picking([place[path] for path in one.by]),
                tuple(sums[summed.field, summed.scale] for summed in one.sums.values()),
            )
            for name, one in self.declared.counters.items()
        )
        self.rankings: tuple[RankingShape, ...] = tuple(
            RankingShape(name, picking([place[path] for path in one.by]), scores[one.path, one.descends])
            for name, one in self.declared.rankings.items()
        )

    def _used(self, name: str) -> frozenset[str] | None:
        one = self.declared.lists[name]
        if self.declared.shown is None:
            return None
        return frozenset((*one.by, *one.where, *(path for path, _ in one.order), *self.declared.shown))

    @cached_property
    def paths(self) -> frozenset[str]:
        """Every path that a contribution depends on: what consumers read."""
        constants = (path for constant in self._constants for path in constant)
        return frozenset(
            (
                *self.group_paths,
                *constants,
                *(path for path, _ in self._summed),
                *(path for path, _ in self._scored),
            )
        )

    @cached_property
    def projection(self) -> dict[str, int]:
        """Of a `find` that reads the facts: no path inside another, which MongoDB would refuse."""
        whole = [p for p in self.paths if not any(p.startswith(other + ".") for other in self.paths)]
        return {"_id": 1, **dict.fromkeys(sorted(whole), 1)}

    def concerns(self, changed: Sequence[str] | None) -> bool:
        """Whether a change of these paths (`None`: all) can change anything derived."""
        return self.effects(changed).concern

    def _concern(self, changed: Sequence[str] | None) -> bool:
        if changed is None or not self.paths.isdisjoint(changed):
            return True
        if any(meets(path, used) for path in changed for used in self.paths):
            return True
        return any(one.affected_by(changed) for one in self.lists)

    def effects(self, changed: Sequence[str] | None) -> Effects:
        """What a change of these paths (`None`: all) means."""
        key = None if changed is None else tuple(changed)
        known = self._effects.get(key)
        if known is None:
            lists = tuple(_effect(one, changed) for one in self.lists)
            names = any(effect.touches and effect.names for effect in lists)
            known = Effects(lists, names, self._concern(changed))
            if len(self._effects) < _EFFECTS:
                self._effects[key] = known
        return known

    def facts(self, documents: Documents) -> list[Facts]:
        """The facts of each document: what its contribution holds besides the version.

        Fact by fact, since what most documents hold is then spelled without a step of ours for each.
        """
        columns = [_each(documents, groups.BEYOND, _group_facts, path) for path in self.group_paths]
        columns += [_each(documents, "1", _constant_facts, constant) for constant in self._constants]
        columns += [_each(documents, UNSUMMABLE, _sum_facts, path, scale) for path, scale in self._summed]
        columns += [_each(documents, "", _score_facts, path, descends) for path, descends in self._scored]
        if not columns:
            return [("",)] * len(documents)  # as a contribution without facts is read
        return list(zip(*columns, strict=True))


def _each(documents: Documents, unknown: str, facts: Callable[..., list[str]], *of: Any) -> list[str]:
    """A fact of each document. One that cannot be told, for whatever reason, is unknown of its own document alone."""
    try:
        return facts(documents, *of)
    except Exception as error:
        if len(documents) == 1:
            log.error("fact_unknown", of=of, reason=repr(error), exc_info=error)
            return [unknown]
        return [fact for one in documents for fact in _each([one], unknown, facts, *of)]


def _constant_facts(documents: Documents, constants: Mapping[str, str]) -> list[str]:
    return ["1" if _holds(one, constants) else "" for one in documents]


def _group_facts(documents: Documents, path: str) -> list[str]:
    if "." not in path:
        values: list[Any] = [document.get(path) for document in documents]
        if set(map(type, values)) == {str} and max(map(len, values)) < SHORT:
            return list(map(short_text, values))
    return [fact_at(document, path) for document in documents]


def _sum_facts(documents: Documents, path: str, scale: int) -> list[str]:
    values = _values(documents, path)
    if not scale and set(map(type, values)) == {int} and min(values) > -LIMIT and max(values) < LIMIT:
        return list(map(str, values))
    return [summable(value, scale) for value in values]


def _score_facts(documents: Documents, path: str, descends: bool) -> list[str]:
    values = _values(documents, path)
    if set(map(type, values)) == {int} and min(values) > -_WHOLE and max(values) < _WHOLE:
        return list(map(str, map(neg, values) if descends else values))
    return [score(value, descends=descends) for value in values]


def _values(documents: Documents, path: str) -> list[Any]:
    """The one value at a path of each; an array of several is no number and no score."""
    if "." not in path:
        return [document.get(path) for document in documents]
    found = [at_path(document, path) for document in documents]
    return [values[0] if len(values) == 1 else None for values in found]


def _holds(document: Mapping[str, Any], constants: Mapping[str, str]) -> bool:
    for path, text in constants.items():
        found = fact_at(document, path)
        # Beyond the bound we cannot tell; a document too many in a list only costs an invalidation.
        if found != text and found != groups.BEYOND and text not in (groups.texts_of(found) or ()):
            return False
    return True


def summable(value: Any, scale: int) -> str:
    """A number as a whole number of 1/10^scale; empty if it is none, `u` if that would not be exact.

    Like MongoDB's `$sum`, everything that is not a number counts for nothing. A double stands for the shortest
    decimal that names it.
    """
    if type(value) is int:
        exact = value * 10**scale if scale else value
        return str(exact) if -LIMIT < exact < LIMIT else UNSUMMABLE
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal128):
        return ""
    if isinstance(value, Decimal128):
        number = value.to_decimal()
    else:
        number = Decimal(int(value)) if isinstance(value, int) else Decimal(repr(value))
    if not number.is_finite():
        return UNSUMMABLE
    if not number:
        return "0"  # whatever its exponent is
    scaled = number.scaleb(scale, _WIDE)
    if scaled.adjusted() > 20 or scaled != scaled.to_integral_value() or not -LIMIT < scaled < LIMIT:
        return UNSUMMABLE
    return str(int(scaled))


def score(value: Any, *, descends: bool) -> str:
    """A score as Redis keeps it: a double, negated if the highest ranks first, so that equal scores rank by key.

    Numbers become the nearest double: beyond 2^53 whole numbers that a double cannot tell apart rank as equal.
    """
    if type(value) is int and -_WHOLE < value < _WHOLE:
        return str(-value if descends else value)
    if isinstance(value, bool):
        return ""
    if isinstance(value, DatetimeMS):
        number = float(int(value))
    elif isinstance(value, datetime.datetime):
        number = float(int(DatetimeMS(value)))
    elif isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return ""
    elif isinstance(value, Decimal128) and value.to_decimal().is_finite():
        number = float(value.to_decimal())
    else:
        return ""
    if not math.isfinite(number):
        return ""
    signed = 0.0 - number if descends else 0.0 + number
    return str(int(signed)) if signed.is_integer() and abs(signed) < _WHOLE else repr(signed)
