"""What `neverstale status` calls a problem."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from typer.testing import CliRunner

from neverstale.catalog import Catalog
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.ops import cli
from neverstale.ops.auditor.counts import AuditCounts
from neverstale.ops.auditor.record import record_of
from neverstale.ops.redis.nodes import NodeStatus
from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.status import (
    NEEDED,
    CellStatus,
    PartitionStatus,
    ServerStatus,
    Status,
    problems,
    standing,
    wrong_answers,
)
from neverstale.settings import Settings
from tests.support.project import ROOT

UP = [ServerStatus(name, None, {}) for name in ("mongodb", "kafka", "redis")]
ROLES = [RoleStatus(role, "h-1", 1, "h", "", 0, "1") for role in NEEDED]


def partition(number: int, age_ms: int | None) -> PartitionStatus:
    return PartitionStatus(number, None if age_ms is None else "0" * 15 + "1", age_ms, 0)


def told(roles: list[RoleStatus], partitions: list[PartitionStatus], *groups: str) -> list[str]:
    return list(problems(Status(UP, roles, partitions, [], []), Settings(), groups or (DEFAULT_GROUP,)))


def test_nothing_is_wrong_where_all_answer_run_and_move() -> None:
    assert told(ROLES, [partition(0, 900), partition(1, 10_000)]) == []


@pytest.mark.parametrize("role", NEEDED)
def test_each_role_is_needed(role: str) -> None:
    roles = [one for one in ROLES if one.role != role]
    assert told(roles, []) == [f"no {role} runs"]


def test_a_partition_without_a_mark_and_one_that_stands_are_named() -> None:
    parts = [partition(0, 5), partition(1, None), partition(2, 10_001), partition(3, 65_000)]
    assert told(ROLES, parts) == [
        "no mark was applied to this Redis on partition 1",
        "the watermark of partitions 2, 3 stands, 1 min old",
    ]


def test_a_redis_that_is_away_says_nothing_of_roles() -> None:
    servers = [*UP[:2], ServerStatus("redis", "no connection", {})]
    assert list(problems(Status(servers, [], [], [], []), Settings())) == ["redis cannot be used: no connection"]


def test_of_several_watcher_groups_each_is_named_and_needs_a_watcher_and_a_consumer() -> None:
    of = [replace(one, groups=("default",)) for one in ROLES[:2]] + ROLES[2:]
    parts = [
        partition(0, 5),
        replace(partition(0, None), group="orders"),
        replace(partition(1, 65_000), group="orders"),
    ]
    assert told(of, parts, "default", "orders", "bills") == [
        "no watcher runs for group orders",
        "no consumer runs for group orders",
        "no mark was applied to this Redis on partition 0 of group orders",
        "the watermark of partition 1 of group orders stands, 1 min old",
        "no watcher runs for group bills",
        "no consumer runs for group bills",
    ]


def test_a_role_that_does_not_tell_its_groups_may_work_for_all() -> None:
    assert told(ROLES, [], "default", "orders") == []


@pytest.mark.parametrize(("heartbeat_ms", "oldest_ms"), [(100, 10_000), (1000, 10_000), (5000, 25_000)])
def test_where_heartbeats_are_rare_a_watermark_may_be_older(heartbeat_ms: int, oldest_ms: int) -> None:
    settings = Settings.model_validate({"watcher": {"heartbeat_ms": heartbeat_ms}})
    parts = [partition(0, oldest_ms), partition(1, oldest_ms + 1)]
    assert standing(parts, settings) == parts[1:]


def cell(name: str, resource: str | None = None, **changed: Any) -> CellStatus:
    held = CellStatus(name, "n:1", DEFAULT_GROUP, resource, "0" * 15 + "1", 5, (), None)
    return replace(held, **changed)


def test_of_cells_each_is_told_of_that_cannot_be_read_or_is_behind() -> None:
    away = partial(cell, watermark=None, age_ms=None, problem="no connection")
    cells = [
        away("default.2.0", without=(0,)),
        away("default.2.1", without=(1,)),
        cell("well", "well"),
        cell("flights", "flights", watermark=None, without=(1,)),
        cell("gates", "gates", age_ms=65_000),
    ]
    parts = [replace(partition(0, None), problem="no connection"), partition(1, 5)]
    status = Status(UP, ROLES, parts, [], [], cells=cells)
    assert list(problems(status, Settings())) == [
        "cells default.2.0, default.2.1 on node n:1 cannot be read: no connection",
        "no mark was applied to what is derived of flights on partition 1",
        "the watermark of what is derived of gates stands, 1 min old",
    ]


def test_where_a_node_is_away_nobody_is_called_missing_whose_card_may_lie_there() -> None:
    node = NodeStatus("n:1", "master", 5, None, None, "no connection")
    status = Status(UP, [], [], [], [], nodes=[node], all_roles=False)
    assert list(problems(status, Settings())) == ["node n:1 of Redis cannot be used: no connection"]


def test_what_is_derived_is_as_far_as_its_own_cell_and_otherwise_as_the_partition_furthest_behind() -> None:
    catalog = Catalog.model_validate({"database": "d", "resources": {"flights": {"key_type": "string"}}})
    flights = catalog.resources["flights"]
    parts = [
        partition(0, 5),
        replace(partition(1, 900), watermark="0" * 15 + "9"),
        replace(partition(2, 1), group="x"),
    ]
    status = Status(UP, ROLES, parts, [], [])
    assert status.behind(flights) == ("0" * 15 + "1", 900)
    assert replace(status, partitions=[partition(0, None), *parts]).behind(flights)[0] is None
    of_its_own = replace(status, cells=[cell("flights", "flights", watermark="f" * 16, age_ms=7)])
    assert of_its_own.behind(flights) == ("f" * 16, 7)


def test_wrong_answers_of_the_last_hour_are_a_problem() -> None:
    counts = AuditCounts(checked=9, broken=2, untrue=1, permanent=1)
    audit = record_of({("flights", "pages"): counts, ("flights", "documents"): AuditCounts(checked=5)}, 0.0, 1.0, [])
    assert list(wrong_answers(audit)) == ["3 answers about pages of flights were wrong in the last hour, 1 for good"]
    assert list(wrong_answers(None)) == []


@pytest.mark.parametrize(
    ("roles", "ages_ms", "words"),
    [
        (ROLES, (900,), ""),
        (ROLES[1:], (900,), "no watcher runs"),
        (ROLES, (900, 65_000), "the watermark of partition 1 stands"),
        (ROLES, (None,), "no mark was applied"),
    ],
)
def test_the_command_ends_with_1_where_a_role_is_missing_or_a_watermark_stands(
    roles: list[RoleStatus], ages_ms: tuple[int | None, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [partition(number, age) for number, age in enumerate(ages_ms)]

    async def gathered(settings: Settings, catalog: object) -> Status:
        return Status(UP, roles, parts, [], told(roles, parts))

    monkeypatch.setattr("neverstale.ops.status.gather", gathered)
    for more in ([], ["--json"]):
        ended = CliRunner().invoke(cli.app, ["status", "--catalog", str(ROOT / "catalog.toml"), *more])
        assert ended.exit_code == (1 if words else 0) and words in ended.output
