"""Negative controls name what they replace by its place: a rule that has moved must be found again."""

import pytest

from neverstale.redis import scripts
from tests.faults.rig.sabotage import RULES, without


@pytest.mark.parametrize("rule", RULES)
def test_what_a_negative_control_replaces_is_still_there(rule: str) -> None:
    with without(rule):
        for name in scripts.NAMES:
            scripts.source(name)
