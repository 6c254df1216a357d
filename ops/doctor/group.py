"""Whether somebody does each job, and whether it gets on: roles, members of the consumer group, partitions.

A partition is *stuck* when something is to be done on it and nothing is done: within a few seconds nothing was
committed, and its watermark did not rise.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupCoordinatorNotAvailableError

from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.consumers.group.static_membership import is_of
from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.names import FindingName
from neverstale.ops.servers import PartitionOffsets
from neverstale.ops.status import (
    Status,
    derived_behind,
    named_partitions,
    nobody_for,
    of_group,
    run,
    standing,
    unknown,
)
from neverstale.settings import Kafka, Settings

OBSERVED_SECONDS: Final = 3.0
"""A consumer commits twice a second, and a watcher marks once."""
CLIENT_ID: Final = "neverstale"
"""Brokers call a consumer without a name so, and append an id."""
_BUSY: Final = ("PreparingRebalance", "CompletingRebalance")

_say, _roles = about("group", "kafka"), about("group", "roles")


@dataclass(frozen=True, slots=True)
class GroupMember:
    id: str
    host: str
    partitions: tuple[int, ...]

    @property
    def is_named(self) -> bool:
        return not is_of(self.id, CLIENT_ID)


@dataclass(frozen=True, slots=True)
class GroupFacts:
    state: str
    """As Kafka calls it: `Stable`, `Empty`, `Dead`, `PreparingRebalance` …"""
    members: tuple[GroupMember, ...]

    def owner(self, partition: int) -> GroupMember | None:
        return next((member for member in self.members if partition in member.partitions), None)


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """What was applied at one moment."""

    offsets: Mapping[int, PartitionOffsets]
    watermarks: Mapping[int, str | None]


async def group_facts(admin: AIOKafkaAdminClient, settings: Kafka) -> GroupFacts:
    try:
        responses = await admin.describe_consumer_groups([settings.group])
    except GroupCoordinatorNotAvailableError:
        return GroupFacts("Empty", ())  # no group ever committed on this cluster
    groups = [group for response in responses for group in response.groups]
    members = [
        GroupMember(id, host, _assigned(assignment, settings.topic))
        for group in groups
        for id, _, host, _, assignment, *_ in group[5]
    ]
    return GroupFacts(groups[0][2] if groups else "Dead", tuple(members))


def _assigned(assignment: bytes, topic: str) -> tuple[int, ...]:
    if not assignment:
        return ()  # the group is just being shared out
    held = ConsumerProtocolMemberAssignment.decode(assignment)
    return tuple(sorted(one.partition for one in held.partitions() if one.topic == topic))


def judge(
    status: Status,
    group: GroupFacts,
    before: GroupProgress,
    after: GroupProgress,
    settings: Settings,
    name: str = DEFAULT_GROUP,
    *,
    explained: Collection[int] = (),
) -> Iterable[Finding]:
    """Of one watcher group, with its settings. `before` and `after` lie some seconds apart. `explained`: partitions
    of which it is known why they stand."""
    found = [
        *_who_runs(status, group, name),
        *_members(group, len(after.offsets), settings.kafka, name),
        *_stuck(before, after, explained, name),
        *_standing(status, before, after, settings, explained, name),
        *_derived_behind(status, settings, name),
    ]
    yield from found or [_say.well(_summary(group, after))]


def _who_runs(status: Status, group: GroupFacts, name: str) -> Iterable[Finding]:
    nowhere = status.missing_roles
    for role in (*nowhere, *(nobody_for(name, status.roles) if status.all_roles else ())):
        if role == "consumer" and not group.members:
            continue  # which is said of the group
        # A consumer and an API that are told nothing work for all groups, a watcher for the default one.
        of = name if role == "watcher" or role not in nowhere else DEFAULT_GROUP
        message = f"no {role} runs{of_group(of).replace(' of ', ' for watcher ')}, or it cannot say so in Redis"
        yield _roles("problem", "role-missing", message, run(role, of))


def _members(group: GroupFacts, partitions: int, settings: Kafka, name: str) -> Iterable[Finding]:
    if not group.members:
        message = f"group {settings.group} has no member: nobody applies changes"
        yield _say("problem", "no-member", message, run("consumer", name))
        return
    if group.state in _BUSY:
        message = f"group {settings.group} is being shared out anew: {group.state}"
        yield _say("warning", "shared-out", message, "neverstale doctor")
        return
    without = [number for number in range(partitions) if group.owner(number) is None]
    if without:
        message = f"no consumer has {named_partitions(without)} of {settings.topic}"
        yield _say("problem", "partition-unowned", message, run("consumer", name))
    if len(group.members) > partitions:
        idle = len(group.members) - partitions
        remedy = (
            f"kafka-topics --bootstrap-server {settings.bootstrap_servers} --alter --topic {settings.topic} "
            f"--partitions {len(group.members)}  # voids everything cached, once"
        )
        message = f"{idle} of {len(group.members)} consumers have nothing to do"
        yield _say("warning", "idle-consumers", message, remedy)
    unnamed = [member for member in group.members if not member.is_named]
    if 0 < len(unnamed) < len(group.members):
        where = ", ".join(sorted({member.host.lstrip("/") for member in unnamed}))
        message = f"{len(unnamed)} of {len(group.members)} consumers have no name: their restart stops all of them"
        remedy = 'export NEVERSTALE_KAFKA__GROUP_INSTANCE_ID="$HOSTNAME"'
        yield _say("warning", "unnamed-consumers", f"{message} ({where})", remedy)


def _stuck(before: GroupProgress, after: GroupProgress, explained: Collection[int], name: str) -> Iterable[Finding]:
    stuck = [one for one in after.offsets if one not in explained and _is_stuck(one, before, after)]
    if stuck:
        lags = [after.offsets[number].lag for number in stuck]
        behind = "records that were never committed" if None in lags else f"{sum(lag or 0 for lag in lags)} records"
        by = ", ".join(sorted({after.offsets[number].by for number in stuck} - {""}))
        last = f", last by {by}" if by else ""
        verb = "do" if len(stuck) > 1 else "does"
        message = f"{named_partitions(stuck)}{of_group(name)} {verb} not move, and {behind} wait{last}"
        yield _say("problem", "stuck", message, _restart_consumer(name))


def _standing(
    status: Status,
    before: GroupProgress,
    after: GroupProgress,
    settings: Settings,
    explained: Collection[int],
    name: str,
) -> Iterable[Finding]:
    """Partitions without a watermark, or with an old one, beside those that are stuck."""
    group = of_group(name)
    told = {*explained, *(number for number in after.offsets if _is_stuck(number, before, after))}
    if nothing := [one for one in unknown(status.partitions) if one not in told]:
        message = f"no mark was applied to this Redis on {named_partitions(nothing)}{group}"
        yield _say("problem", "no-mark", message, f"{run('watcher', name)}\n{run('consumer', name)}")
    every = standing(status.partitions, settings)
    old = [one for one in every if one.partition not in told]
    if not old or any(server.problem is not None for server in status.servers):
        return  # without MongoDB or Kafka there are no marks, and that is said
    seconds = max(one.age_ms or 0 for one in old) / 1000
    message = f"the watermark of {named_partitions([one.partition for one in old])}{group} is {seconds:.0f} s old"
    if not any(one.age_ms is not None and one not in every for one in status.partitions):
        yield _say("problem", "watermark-stands", f"{message}: no marks come", run("watcher", name))
    else:
        # The watcher marks all partitions together.
        whose = {after.offsets[one.partition].by for one in old if one.partition in after.offsets} - {""}
        last = f", last by {', '.join(sorted(whose))}" if whose else ""
        message = f"{message}, and others move: nobody applies what is there{last}"
        yield _say("problem", "watermark-stands", message, _restart_consumer(name))


def _derived_behind(status: Status, settings: Settings, name: str) -> Iterable[Finding]:
    """Cells of what is derived that are behind although partitions are applied to those of documents."""
    if any(server.problem is not None for server in status.servers) or standing(status.partitions, settings):
        return
    for cell, sentence in derived_behind(status, settings):
        wrong: FindingName = "no-mark" if cell.without else "watermark-stands"
        where = f" (cell {cell.cell}{f' on node {cell.node}' if cell.node else ''})"
        yield _say("problem", wrong, f"{sentence}{where}, and documents move", _restart_consumer(name))


def _restart_consumer(group: str) -> str:
    return f"# see the log of the consumer that has it, and restart it:\n{run('consumer', group)}"


def _is_stuck(number: int, before: GroupProgress, after: GroupProgress) -> bool:
    first, last = before.offsets.get(number), after.offsets[number]
    waited = first is not None and first.end > (first.committed or 0)
    moved = first is None or first.committed != last.committed
    return waited and not moved and before.watermarks.get(number) == after.watermarks.get(number)


def _summary(group: GroupFacts, after: GroupProgress) -> str:
    lag = sum(one.lag or 0 for one in after.offsets.values())
    members = f"{len(group.members)} consumer{'s' * (len(group.members) > 1)}"
    return f"{members} on {len(after.offsets)} partitions, {lag} records wait"
