"""How much k wrong of N says: the highest share of wrong answers that is still likely, and its nines.

The limit is exact (Clopper and Pearson, 1934): with a share of p, k or fewer of N would be seen in 5 % of all cases.
For k = 0 it is 1 - 0.05^(1/N), a little less than 3/N (the rule of three). So 3,000,000 answers without a wrong one
are six nines, and no number of answers is more than they are.
Source of the continued fraction: Numerical Recipes, section 6.4 (Lentz).
"""

from math import exp, expm1, floor, lgamma, log, log1p, log10
from typing import Final

DOUBT: Final = 0.05
_TINY: Final = 1e-300
_STEPS: Final = 500
_HALVINGS: Final = 100


def at_most(wrong: int, checked: int) -> float:
    """The share of wrong ones is at most this, at 95 %; 1 if nothing was checked."""
    if wrong >= checked:
        return 1.0
    if wrong == 0:
        return -expm1(log(DOUBT) / checked)
    low, high = wrong / checked, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _likely(wrong, checked, middle) > DOUBT:
            low = middle
        else:
            high = middle
    return high


def nines(wrong: int, checked: int) -> float:
    """How many nines the share of right answers has at least, at 95 %, rounded down to a tenth: 99.9 % is 3.0."""
    return floor(-10 * log10(at_most(wrong, checked)) + 1e-9) / 10 if wrong < checked else 0.0


def _likely(wrong: int, checked: int, share: float) -> float:
    """How likely so many or fewer are wrong: the binomial distribution, as an incomplete beta function."""
    return _beta(checked - wrong, wrong + 1, 1 - share)


def _beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / (_far(1 - (a + b) * x / (a + 1)))
    value = d
    for m in range(1, _STEPS):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _far(1 + step * d)
            c = _far(1 + step / c)
            value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return value


def _far(number: float) -> float:
    """Not too near to zero to be divided by."""
    return number if abs(number) > _TINY else _TINY
