"""Each experiment is found by its number, among the files and in the docs, and has a control that is possible."""

import pytest

from neverstale.redis import scripts
from tests.faults.experiments.catalogue import ALL, NAMES, numbers, within
from tests.faults.rig.sabotage import RULES, without
from tests.support.project import ROOT


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_named_after_the_numbers_of_its_experiments(name: str) -> None:
    assert numbers(name) == [experiment.number for experiment in within(name)]


def test_the_docs_have_a_row_for_each_experiment() -> None:
    rows = (ROOT / "docs/faults.md").read_text(encoding="utf-8").splitlines()
    documented = [row.split("|")[1].strip() for row in rows if row.startswith("| ")][1:]
    assert documented == [experiment.number for experiment in ALL]


def test_each_experiment_has_a_control_and_each_control_a_rule() -> None:
    assert [experiment.number for experiment in ALL if not experiment.controls] == []
    assert {rule for experiment in ALL for rule in experiment.controls} <= RULES.keys()


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_can_still_be_taken_away(rule: str) -> None:
    """What it replaces is still there, and so is each line of a script that it changes."""
    with without(rule):
        for name in scripts.NAMES:
            scripts.source(name)
