"""What k wrong of N proves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverstale.ops.auditor.nines import at_most, nines

TABLE = [  # one-sided 95 % limits of Clopper and Pearson, from tables
    (0, 10, 0.2589),
    (1, 10, 0.3942),
    (2, 10, 0.5069),
    (5, 10, 0.7776),
    (9, 10, 0.9949),
    (0, 100, 0.02951),
    (1, 100, 0.04656),
    (10, 100, 0.1637),
    (3, 1000, 0.007735),
]


@pytest.mark.parametrize(("wrong", "checked", "limit"), TABLE)
def test_the_limit_is_that_of_the_tables(wrong: int, checked: int, limit: float) -> None:
    assert at_most(wrong, checked) == pytest.approx(limit, rel=5e-4)


@given(st.integers(1, 10**9))
def test_with_none_wrong_the_limit_is_within_the_rule_of_three(checked: int) -> None:
    assert 2.5 / checked <= at_most(0, checked) <= 3 / checked or checked < 20


@given(st.integers(1, 10**7), st.data())
def test_more_wrong_ones_never_prove_more(checked: int, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, checked - 1))
    assert wrong / checked < at_most(wrong, checked) <= at_most(wrong + 1, checked) + 1e-12 <= 1 + 1e-12


@pytest.mark.parametrize(
    ("wrong", "checked", "count"),
    [(0, 0, 0), (0, 1, 0), (1, 1, 0), (0, 3000, 3.0), (0, 2990, 2.9), (0, 3_000_000, 6.0), (1, 3_000_000, 5.8)],
)
def test_no_number_of_answers_is_more_nines_than_it_is(wrong: int, checked: int, count: float) -> None:
    assert nines(wrong, checked) == count
