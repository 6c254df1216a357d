"""Nothing that doctor may find wrong is without a test that provokes it on a real server."""

import importlib
from typing import get_args

from neverstale.ops.check.names import ConsoleName, DoctorName, FindingName
from tests.worlds.doctored import PROVOKED

MODULES = ("cells", "check", "check_indexes", "doctor_answers", "doctor_kafka", "doctor_mongodb", "doctor_redis")


def test_what_may_be_found_and_what_is_provoked_are_the_same() -> None:
    for name in MODULES:
        importlib.import_module(f"tests.integration.ops.test_{name}")
    assert frozenset().union(*PROVOKED.values()) == frozenset(get_args(DoctorName))


def test_a_name_is_that_of_one_thing() -> None:
    names = get_args(FindingName)
    assert len(names) == len(set(names)) == len(get_args(DoctorName)) + len(get_args(ConsoleName))
