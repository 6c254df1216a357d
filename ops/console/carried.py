"""What was seen last of a server or a process that does not answer now, carried on into the next look."""

from collections.abc import Iterable
from dataclasses import replace

from neverstale.ops.console.looks import ProcessLook, QuickLook
from neverstale.ops.status import PartitionStatus, Status


def carried(before: QuickLook | None, now: QuickLook) -> QuickLook:
    """The new look, with what the one before it knew and nobody tells at the moment."""
    answers = [one.name for one in now.status.servers if one.problem is None]
    heard = (dict(before.heard) if before is not None else {}) | dict.fromkeys(answers, now.at)
    if before is None:
        return replace(now, heard=heard)
    held = {one.role.instance: one.samples for one in before.processes}
    processes = [
        one if one.samples else replace(one, samples=held.get(one.role.instance, one.samples))
        for one in now.processes
    ]
    return replace(now, status=_status(before, now), processes=processes, heard=heard)


def _status(before: QuickLook, now: QuickLook) -> Status:
    then, status = before.status, now.status
    facts = {one.name: one.facts for one in then.servers}
    servers = [
        replace(one, facts=facts.get(one.name, {})) if one.problem is not None else one for one in status.servers
    ]
    if "redis" in now.away:
        passed = round((now.at - before.at) * 1000)
        older = [_older(one, passed) for one in then.partitions]
        return replace(status, servers=servers, roles=then.roles, partitions=older, registers=then.registers)
    if "kafka" in now.away:
        return replace(status, servers=servers, partitions=list(_with_lags(then.partitions, status.partitions)))
    return replace(status, servers=servers)


def _older(one: PartitionStatus, passed_ms: int) -> PartitionStatus:
    return one if one.age_ms is None else replace(one, age_ms=one.age_ms + passed_ms)


def _with_lags(then: Iterable[PartitionStatus], now: Iterable[PartitionStatus]) -> Iterable[PartitionStatus]:
    lags = {(one.group, one.partition): one.lag for one in then}
    for one in now:
        yield one if one.lag is not None else replace(one, lag=lags.get((one.group, one.partition)))


def remembered(
    processes: Iterable[ProcessLook], silent_since: dict[str, float], at: float, seconds: float
) -> list[ProcessLook]:
    """Those to ask again although their card has run out: who answers, and who has been silent for less than this."""
    kept = []
    for one in processes:
        if one.presence == "answers":
            silent_since.pop(one.role.instance, None)
        elif at - silent_since.setdefault(one.role.instance, at) > seconds:
            silent_since.pop(one.role.instance)
            continue
        kept.append(one)
    return kept
