"""The short form of every experiment: it holds, and without the rule that it is about it does not."""

from collections.abc import Iterator

import pytest

from tests.faults.experiments.catalogue import ALL
from tests.faults.rig.bench import Bench
from tests.faults.rig.conduct import conduct
from tests.faults.rig.experiment import Experiment
from tests.faults.rig.nursery import Nursery

SEEDS = (1, 2, 3, 4, 5)
"""An experiment must hold with the first. Its control may need another: hitting where it hurts is chance."""

RUNS = [
    pytest.param(experiment, rule, id=f"{experiment.number}-{f'without {rule}' if rule else 'holds'}")
    for experiment in ALL
    if experiment.short
    for rule in (None, *experiment.controls)
    if rule not in experiment.long_controls
]


@pytest.fixture(scope="module")
def bench(nursery: Nursery) -> Iterator[Bench]:
    bench = Bench(nursery=nursery)
    yield bench
    bench.close()


@pytest.mark.timeout(300)  # seconds on a free machine; a busy one must not turn a slow run into a wrong one
@pytest.mark.parametrize(("experiment", "rule"), RUNS)
async def test_it_holds_and_its_control_fails(experiment: Experiment, rule: str | None, bench: Bench) -> None:
    for seed in SEEDS if rule else SEEDS[:1]:
        row = await conduct(experiment, bench, experiment.short, seed, rule, briefly=True)
        print(row.as_text())
        if row.passed:
            break
    assert row.passed, "\n".join([row.as_text(), *row.examples])
