"""What a replica set says of its members."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from neverstale.ops.doctor.replica_set import judge
from neverstale.settings import MongoDB

NOW = datetime(2026, 11, 30, tzinfo=UTC)


def member(name: str, state: str = "SECONDARY", lag: float = 0, health: int = 1) -> dict[str, Any]:
    return {"name": name, "stateStr": state, "health": health, "optimeDate": NOW - timedelta(seconds=lag)}


def judged(*members: dict[str, Any], majority: float = 0, **declared: Any) -> list[tuple[str, str]]:
    """The options are those of the last member."""
    config = {"members": [{"host": one["name"], "votes": 1} for one in members]}
    config["members"][-1] |= declared
    optimes = {"lastAppliedWallTime": NOW, "lastCommittedWallTime": NOW - timedelta(seconds=majority)}
    found = judge({"members": list(members), "optimes": optimes}, config, MongoDB(), 10.0)
    return [(one.level, one.message) for one in found]


PRIMARY = member("a:1", "PRIMARY")


def test_members_that_keep_up_are_no_finding() -> None:
    assert judged(PRIMARY, member("b:1", lag=9)) == []


@pytest.mark.parametrize(
    ("last", "declared", "level", "words"),
    [
        (member("c:1", lag=11), {}, "problem", "11 s behind"),
        (member("c:1", lag=11), {"votes": 0, "hidden": True}, "warning", "11 s behind"),
        (member("c:1", lag=3600), {"secondaryDelaySecs": 3600}, "warning", "delayed by 3600 s and votes"),
        (member("c:1", lag=3600), {"secondaryDelaySecs": 3600, "votes": 0}, "warning", "3600 s behind"),
        (member("c:1", "ARBITER"), {"arbiterOnly": True}, "warning", "is an arbiter"),
        (member("c:1", "RECOVERING"), {}, "problem", "is RECOVERING"),
        (member("c:1", "(not reachable/healthy)", health=0), {}, "problem", "not reachable"),
    ],
)
def test_a_member_that_does_not_keep_up_is_named(
    last: dict[str, Any], declared: dict[str, Any], level: str, words: str
) -> None:
    [(found, message)] = judged(PRIMARY, last, **declared)
    assert found == level and "c:1" in message and words in message


def test_a_majority_that_stands_is_a_problem() -> None:
    [(level, message)] = judged(PRIMARY, majority=6)
    assert level == "problem" and "the majority is 6 s behind" in message
