"""Looks for the tests of the console: a pipeline that is well, and what may be otherwise."""

from typing import Any

from neverstale.ops.console.looks import GroupLook, LongLook, Presence, ProcessLook, QuickLook
from neverstale.ops.console.samples import Labels, Samples
from neverstale.ops.doctor.group import GroupFacts, GroupMember, GroupProgress
from neverstale.ops.redis.held import Register
from neverstale.ops.redis.roles import RoleStatus
from neverstale.ops.servers import PartitionOffsets
from neverstale.ops.status import PartitionStatus, ServerStatus, Status
from neverstale.settings import Settings

SETTINGS = Settings()
PARTITIONS = 2
NAMES: dict[str, dict[str, Any]] = {
    "mongodb": {"version": "8.0"},
    "kafka": {"brokers": 1},
    "redis": {"version": "8.2", "memory": "1.0 MiB"},
}


def process(role: str, presence: Presence = "answers", **metrics: float) -> ProcessLook:
    """`reads__hit=3` is `neverstale_reads_total{how="hit"} 3`."""
    held: dict[str, list[tuple[Labels, float]]] = {}
    for name, value in metrics.items():
        name, _, label = name.partition("__")
        held.setdefault(f"neverstale_{name}", []).append(({"how": label, "action": label} if label else {}, value))
    return ProcessLook(RoleStatus(role, f"{role}-1", 7, "box", "http://box:1", 0, "1"), presence, Samples(held))


def look(
    *processes: ProcessLook,
    at: float = 100.0,
    age_ms: tuple[int | None, ...] = (380, 100),
    away: tuple[str, ...] = (),
    floor: str | None = None,
) -> QuickLook:
    servers = [ServerStatus(name, "no connection" if name in away else None, facts) for name, facts in NAMES.items()]
    known = "redis" not in away
    partitions = [
        PartitionStatus(number, None if age is None else f"{number:016x}", age, 3)
        for number, age in enumerate(age_ms)
    ]
    registers = [Register("floor flights", floor)]
    status = Status(
        servers,
        [one.role for one in processes] if known else [],
        partitions if known else [],
        registers if known else [],
        [],
    )
    return QuickLook(at, round(at * 1000), status, list(processes))


def well(at: float = 100.0, **changes: Any) -> QuickLook:
    api = process("api", bound_seconds=changes.pop("bound", 0.41))
    return look(process("watcher", watcher_leads=1, watcher_term=3), process("consumer"), api, at=at, **changes)


def long_look(at: float = 100.0, committed: int = 5, letters: int | None = 0) -> LongLook:
    offsets = {number: PartitionOffsets(committed, 9, "consumer-1") for number in range(PARTITIONS)}
    progress = GroupProgress(offsets, dict.fromkeys(range(PARTITIONS), f"{committed:016x}"))
    group = GroupFacts("Stable", (GroupMember("consumer-1-5", "box", tuple(range(PARTITIONS))),))
    return LongLook(at, {"default": GroupLook(group, progress, None, letters)}, None, {})
