"""Sums: the fact of a number that is summed."""

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, ClassVar, Final

from bson.decimal128 import Decimal128

from neverstale.derived.facts import Documents, Fact, values_of

UNSUMMABLE: Final = "u"
_WIDE: Final = Context(prec=60, Emax=999_999, Emin=-999_999, traps=[])
LIMIT: Final = 2**63
"""A scaled value must be smaller, either way: then two limbs of 64 bits hold the sum of 2^31 documents."""


@dataclass(frozen=True, slots=True)
class SumFact(Fact):
    """A field as a whole number of 1/10^scale; empty if it is no number, `u` if a sum cannot hold it exactly."""

    unknown: ClassVar[str] = UNSUMMABLE
    path: str
    scale: int

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def tell(self, documents: Documents) -> list[str]:
        values = values_of(documents, self.path)
        if not self.scale and set(map(type, values)) == {int} and min(values) > -LIMIT and max(values) < LIMIT:
            return list(map(str, values))
        return [summable(value, self.scale) for value in values]


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
