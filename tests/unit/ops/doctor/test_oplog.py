"""How long a watcher may be away."""

import pytest

from neverstale.ops.doctor.oplog import OplogFacts, judge
from neverstale.settings import Settings

DAY, MB = 86_400, 1 << 20
NOW = 1_800_000_000


def facts(held_seconds: int, used: int, most: int) -> OplogFacts:
    return OplogFacts((NOW - held_seconds) << 32, NOW << 32, used * MB, most * MB)


def levels(oplog: OplogFacts, position_seconds: int | None) -> list[str]:
    position = None if position_seconds is None else (NOW - position_seconds) << 32
    return [one.level for one in judge(oplog, position, Settings())]


@pytest.mark.parametrize(
    ("oplog", "position", "expected"),
    [
        (facts(2 * DAY, 1000, 1000), 1, ["ok"]),
        (facts(2 * DAY, 1000, 1000), None, ["ok"]),
        (facts(600, 1, 1000), 1, ["ok"]),  # not full yet: it will reach back a week
        (facts(DAY // 2, 1000, 1000), 1, ["warning"]),
        (facts(1800, 1000, 1000), 1, ["problem"]),
        (facts(2 * DAY, 1000, 1000), DAY + 3600, ["problem", "ok"]),  # half of it is gone
        (facts(2 * DAY, 1000, 1000), 3 * DAY, ["problem"]),  # overwritten
        (facts(0, 0, 1000), 0, ["ok"]),  # nothing was written yet
    ],
)
def test_what_counts_is_the_rate_and_the_position(
    oplog: OplogFacts, position: int | None, expected: list[str]
) -> None:
    assert levels(oplog, position) == expected


def test_the_remedy_is_a_size_that_lasts_a_day_at_this_rate_and_that_mongodb_takes() -> None:
    [short] = judge(facts(3600, 1000, 1000), None, Settings())
    assert "size: Double(36000)" in short.remedy
    [small] = judge(facts(3600, 1, 1), None, Settings())
    assert "size: Double(990)" in small.remedy
