"""Whose clock may be how wrong."""

import pytest

from neverstale.ops.doctor.clocks import judge


@pytest.mark.parametrize(
    ("hosts", "members", "level"),
    [
        ({"this machine": (1900.0, 1.0)}, {"member b:1": (400.0, 1.0)}, "ok"),
        ({"this machine": (-2100.0, 1.0)}, {}, "warning"),
        ({"this machine": (2100.0, 200.0)}, {}, "ok"),  # as far as can be told
        ({}, {"member b:1": (-600.0, 1.0)}, "problem"),
    ],
)
def test_a_member_of_the_set_must_agree_more_closely_than_a_host(
    hosts: dict[str, tuple[float, float]], members: dict[str, tuple[float, float]], level: str
) -> None:
    [finding] = judge(hosts, members)
    assert finding.level == level and bool(finding.remedy) == (level != "ok")
