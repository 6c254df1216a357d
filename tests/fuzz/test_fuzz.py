"""A short run of every fuzzer: the corpus, and some hundred mutations of it. The long run: `make fuzz SECONDS=60`."""

from random import Random

import pytest

from tests.fuzz.corpus import seeds
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS

TIMES = 300
SLOW = {"heads": 60, "audits": 150}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nothing_that_comes_from_outside_breaks_what_decodes_it(name: str) -> None:
    known, dice = seeds(name), Random(1)
    for data in known:
        TARGETS[name](data)
    for _ in range(SLOW.get(name, TIMES)):
        data = mutated(dice, known)
        try:
            TARGETS[name](data)
        except Exception as error:
            pytest.fail(f"{name}: {data!r}: {type(error).__name__}: {error}")


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_each_fuzzer_has_seeds_that_lead_into_it(name: str) -> None:
    assert len(seeds(name)) >= 2
