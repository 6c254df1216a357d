"""Equal values have equal bytes, whichever way a server sends them."""

from collections.abc import Callable
from itertools import combinations

import pytest

from neverstale.bson.spelling import spelled
from neverstale.bson.values import decode
from neverstale.keys import any_value_of, canonical
from tests.properties.raw_bson import (
    ODD,
    Value,
    array,
    decimal,
    document,
    double,
    double_bits,
    embedded,
    integer,
    long,
    string,
    symbol,
)

NANS = (double(float("nan")), double_bits(0xFFF8_0000_0000_0001), double_bits(0x7FF0_0000_0000_0001), decimal("NaN"))
AROUND: tuple[Callable[[Value], Value], ...] = (
    lambda one: one,
    lambda one: embedded(one.named("k")),
    lambda one: embedded(array(one).named("k")),
)
EQUAL: dict[str, list[Value]] = {
    "numbers": [integer(1), long(1), double(1.0), decimal("1"), decimal("1.00"), decimal("10E-1")],
    "NaN": [
        double(float("nan")),
        double_bits(0xFFF8_0000_0000_0001),
        double_bits(0x7FF0_0000_0000_0001),
        decimal("NaN"),
    ],
    "zeros": [integer(0), double(-0.0), decimal("0E+6111"), decimal("-0"), ODD["a decimal of another spelling"]],
    "beyond 64 bits": [double(1e20), decimal("1E+20"), decimal("100000000000000000000")],
    "texts": [string("x"), symbol(b"x")],
}


def of(value: Value) -> object:
    return decode(document(value.named("v")))["v"]


@pytest.mark.parametrize("values", EQUAL.values(), ids=EQUAL)
def test_equal_values_are_one_key_at_any_depth(values: list[Value]) -> None:
    for around in (
        lambda one: one,
        lambda one: embedded(one.named("k")),
        lambda one: embedded(array(one).named("k")),
    ):
        assert len({canonical(of(around(value))) for value in values}) == 1


def test_unequal_values_are_keys_of_their_own() -> None:
    kinds = [of(embedded(values[0].named("k"))) for values in EQUAL.values()]
    for one, other in combinations(kinds, 2):
        assert canonical(one) != canonical(other)


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_a_spelling_stays_as_it_is(value: Value) -> None:
    once = spelled(of(embedded(value.named("k"))))
    assert spelled(decode(once)[""]) == once
    key = canonical(of(embedded(value.named("k"))))
    assert canonical(any_value_of(key)) == key
