"""Scores: the fact of a field that documents are ranked by."""

import datetime
import math
from dataclasses import dataclass
from operator import neg
from typing import Any, ClassVar, Final

from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128

from neverstale.derived.facts import Documents, Fact, values_of

_WHOLE: Final = 2**53


@dataclass(frozen=True, slots=True)
class ScoreFact(Fact):
    """A field as a double, negated if the highest ranks first; empty if the document has no rank."""

    unknown: ClassVar[str] = ""
    path: str
    descends: bool

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def tell(self, documents: Documents) -> list[str]:
        values = values_of(documents, self.path)
        if set(map(type, values)) == {int} and min(values) > -_WHOLE and max(values) < _WHOLE:
            return list(map(str, map(neg, values) if self.descends else values))
        return [score(value, descends=self.descends) for value in values]


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
