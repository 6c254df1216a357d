"""Who does which job, and whether it gets on, as Kafka and Redis tell it."""

from dataclasses import replace
from typing import Any

import pytest

from neverstale.ops.check.findings import Finding
from neverstale.ops.doctor.group import GroupFacts, GroupMember, GroupProgress, judge
from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.servers import PartitionOffsets
from neverstale.ops.status import NEEDED, CellStatus, PartitionStatus, ServerStatus, Status
from neverstale.settings import Settings

MARK, NEXT = "0" * 15 + "1", "0" * 15 + "2"
UUID = "12345678-1234-5678-1234-567812345678"
ROLES = [RoleStatus(role, "h-1", 1, "h", "", 0, "1") for role in NEEDED]
PARTS = [PartitionStatus(number, MARK, 500, 0) for number in range(2)]
STATUS = Status([], ROLES, PARTS, [], [])


def member(name: str, *partitions: int) -> GroupMember:
    return GroupMember(f"{name}-{UUID}", "/10.0.0.1", partitions)


def progress(*pairs: tuple[int | None, int], mark: str = MARK) -> GroupProgress:
    """Committed and end of each partition."""
    return GroupProgress(
        {number: PartitionOffsets(committed, end, "h-1") for number, (committed, end) in enumerate(pairs)},
        dict.fromkeys(range(len(pairs)), mark),
    )


STILL = progress((5, 5), (7, 7))
WELL: dict[str, Any] = {
    "status": STATUS,
    "group": GroupFacts("Stable", (member("one", 0), member("two", 1))),
    "before": STILL,
    "after": STILL,
}


def found(**changes: Any) -> list[Finding]:
    return list(judge(**(WELL | changes), settings=Settings()))


def group(*members: GroupMember, state: str = "Stable") -> GroupFacts:
    return GroupFacts(state, members)


def test_where_all_is_well_one_line_says_so() -> None:
    [finding] = found()
    assert (finding.level, finding.message) == ("ok", "2 consumers on 2 partitions, 0 records wait")


@pytest.mark.parametrize(
    ("members", "level", "words"),
    [
        ((), "problem", "has no member"),
        ((member("one", 0),), "problem", "no consumer has partition 1"),
        ((member("one", 0), member("two", 1), member("three")), "warning", "1 of 3 consumers have nothing to do"),
        ((member("one", 0), member("neverstale", 1)), "warning", "1 of 2 consumers have no name"),
        ((member("neverstale", 0), member("neverstale", 1)), "ok", "2 consumers on 2 partitions"),
        ((member("neverstale-1", 0), member("neverstale-2", 1)), "ok", "2 consumers on 2 partitions"),
    ],
)
def test_the_members_of_the_group(members: tuple[GroupMember, ...], level: str, words: str) -> None:
    [finding] = found(group=group(*members))
    assert finding.level == level and words in finding.message
    assert bool(finding.remedy) == (level != "ok")


def test_while_the_group_is_shared_out_nobody_is_blamed_for_having_nothing() -> None:
    [finding] = found(group=group(member("one"), state="PreparingRebalance"))
    assert finding.level == "warning" and "shared out anew" in finding.message


@pytest.mark.parametrize(
    ("before", "after", "stuck"),
    [
        (progress((5, 9), (7, 7)), progress((5, 12), (7, 7)), True),
        (progress((None, 9), (7, 7)), progress((None, 9), (7, 7)), True),
        (progress((5, 90), (7, 7)), progress((6, 900), (7, 7)), False),  # it catches up
        (progress((5, 5), (7, 7)), progress((5, 9), (7, 7)), False),  # it came just now
        (progress((5, 9), (7, 7)), progress((5, 9), (7, 7), mark=NEXT), False),  # applied, and not committed yet
    ],
)
def test_a_partition_is_stuck_if_something_waits_and_nothing_is_done(
    before: GroupProgress, after: GroupProgress, stuck: bool
) -> None:
    messages = [one.message for one in found(before=before, after=after) if one.level == "problem"]
    assert any("partition 0 does not move" in message for message in messages) is stuck


def test_several_partitions_that_are_stuck_are_one_finding() -> None:
    still = progress((5, 9), (None, 7))
    [one] = [one for one in found(before=still, after=still) if "not move" in one.message]
    assert one.message == "partitions 0, 1 do not move, and records that were never committed wait, last by h-1"
    still = progress((5, 9), (5, 7))
    [one] = [one for one in found(before=still, after=still) if "not move" in one.message]
    assert one.message == "partitions 0, 1 do not move, and 6 records wait, last by h-1"


def test_roles_that_are_missing_and_watermarks_that_stand_are_said_once_each() -> None:
    parts = [replace(PARTS[0], age_ms=60_000), replace(PARTS[1], watermark=None, age_ms=None)]
    messages = [one.message for one in found(status=replace(STATUS, roles=ROLES[1:], partitions=parts))]
    assert messages == [
        "no watcher runs, or it cannot say so in Redis",
        "no mark was applied to this Redis on partition 1",
        "the watermark of partition 0 is 60 s old: no marks come",
    ]


def aged(*ages_ms: int) -> Status:
    parts = [replace(PARTS[0], partition=number, age_ms=age) for number, age in enumerate(ages_ms)]
    return replace(STATUS, partitions=parts)


def test_where_all_watermarks_stand_the_watcher_is_to_blame_and_where_some_move_it_is_not() -> None:
    [no_marks] = found(status=aged(60_000, 60_000))
    assert no_marks.message.endswith("60 s old: no marks come") and no_marks.remedy == "neverstale run watcher"
    [not_applied] = found(status=aged(60_000, 100))
    assert not_applied.name == no_marks.name == "watermark-stands" and "last by h-1" in not_applied.message
    assert not_applied.remedy.endswith("neverstale run consumer")


def test_without_a_server_no_marks_come_and_nobody_else_is_to_blame() -> None:
    away = [ServerStatus("mongodb", "no answer", {})]
    assert [one.level for one in found(status=replace(aged(60_000, 60_000), servers=away))] == ["ok"]


def test_partitions_that_stand_for_a_known_reason_are_not_told_again() -> None:
    still = progress((5, 9), (5, 9))
    known: dict[str, Any] = {"status": aged(60_000, 60_000), "before": still, "after": still}
    assert [one.name for one in found(**known)] == ["stuck"]
    assert [one.level for one in found(**known, explained=[0, 1])] == ["ok"]


def test_of_a_watcher_group_lines_name_it_and_so_do_messages() -> None:
    cards = [replace(one, groups=("default",)) for one in ROLES[:2]] + ROLES[2:]
    parts = [replace(one, group="orders", watermark=None, age_ms=None) for one in PARTS]
    found = list(judge(Status([], cards, parts, [], []), group(), STILL, STILL, Settings(), "orders"))
    assert [(one.name, one.remedy) for one in found] == [
        ("role-missing", "neverstale run watcher --group orders"),
        ("no-member", "neverstale run consumer --group orders"),
        ("no-mark", "neverstale run watcher --group orders\nneverstale run consumer --group orders"),
    ]
    assert found[0].message.startswith("no watcher runs for watcher group orders")
    assert found[2].message.endswith("partitions 0, 1 of group orders")


def test_what_is_derived_may_be_behind_although_documents_move() -> None:
    cell = CellStatus("flights", "n:1", "default", "flights", None, None, (1,), None)
    [behind] = found(status=replace(STATUS, cells=[cell]))
    assert behind.name == "no-mark" and "(cell flights on node n:1)" in behind.message
    old = replace(cell, watermark=MARK, age_ms=90_000, without=())
    [behind] = found(status=replace(STATUS, cells=[old]))
    assert behind.name == "watermark-stands" and "what is derived of flights" in behind.message
