"""Expecting Hypothesis to find a failure on real servers."""

import re
from collections.abc import Callable
from typing import Final, TypeVar

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

Case = TypeVar("Case")
CASES: Final = 500
SEED: Final = 4


def finds(cases: SearchStrategy[Case], run: Callable[[Case], object], failure: str, start: int = SEED) -> None:
    """Run cases, the same ones every time, until an assertion fails; fail unless one does, for this reason.

    To find one is enough: the shortest is a matter for the exhaustive searches. Nor need it come about a second time:
    servers take their time as they like, and Hypothesis, which tries it again, calls that flaky.
    `start` is a seed with which each control of a machine fails soon; with others it may take a minute.
    """
    found: list[str] = []

    @seed(start)
    @given(cases)
    @settings(max_examples=CASES, deadline=None, database=None, phases=[Phase.generate], report_multiple_bugs=False)
    def check(case: Case) -> None:
        try:
            run(case)
        except AssertionError as error:
            found.append(str(error))
            raise

    with pytest.raises((AssertionError, Flaky)):
        check()
    assert re.search(failure, found[0]), found[0]
