"""Whether the replica set keeps up: change streams and snapshot reads tell only what a majority holds."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pymongo import AsyncMongoClient

from neverstale.ops.check.findings import Finding, about
from neverstale.ops.check.paste import mongosh
from neverstale.ops.doctor.allowed import allowed
from neverstale.settings import MongoDB

LAG_SECONDS: Final = 10.0
"""A member that is further behind is named."""
MAJORITY_SECONDS: Final = 5.0
"""Bounds grow with the distance between the newest change and the majority."""
_WELL: Final = frozenset(("PRIMARY", "SECONDARY", "ARBITER"))

_say = about("replica-set", "mongodb")

Document = Mapping[str, Any]


async def look_at_replica_set(
    client: AsyncMongoClient[dict[str, Any]], settings: MongoDB, *, lag_seconds: float = LAG_SECONDS
) -> list[Finding]:
    answers = await allowed(
        _say,
        settings,
        "clusterMonitor",
        lambda: client.admin.command("replSetGetStatus"),
        lambda: client.admin.command("replSetGetConfig"),
    )
    if isinstance(answers, Finding):
        return [answers]
    status, config = answers
    found = list(judge(status, config["config"], settings, lag_seconds))
    counted = f"{len(status['members'])} member{'s' * (len(status['members']) > 1)}, no lag to speak of"
    return found or [_say.well(counted)]


def judge(status: Document, config: Document, settings: MongoDB, lag_seconds: float) -> Iterable[Finding]:
    """What `replSetGetStatus` and `replSetGetConfig` say."""
    members = {member["host"]: member for member in config["members"]}
    yield from _majority(status, settings)
    primary = next((one for one in status["members"] if one["stateStr"] == "PRIMARY"), None)
    for member in status["members"]:
        declared = members.get(member["name"], {})
        if member["health"] != 1 or member["stateStr"] not in _WELL:
            message = f"member {member['name']} is {member['stateStr']}: fewer may fail before the majority stands"
            yield _say("problem", "member-down", message, f"see its log, and {mongosh(settings, 'rs.status()')}")
        elif declared.get("arbiterOnly"):
            message = (
                f"{member['name']} is an arbiter, which holds no data: one more member down, the majority stands"
            )
            remedy = mongosh(settings, "rs.add('HOST:27017') // then rs.remove the arbiter")
            yield _say("warning", "arbiter", message, remedy)
        elif (delay := declared.get("secondaryDelaySecs", 0)) and declared.get("votes"):
            message = f"member {member['name']} is delayed by {delay} s and votes: it holds up the majority"
            remedy = _reconfigured(settings, config, member["name"], "votes = 0")
            yield _say("warning", "delayed-voter", message, remedy)
        elif primary is not None and (lag := _lag(primary, member)) > lag_seconds:
            message = f"member {member['name']} is {lag:.0f} s behind the primary"
            remedy = mongosh(settings, "rs.printSecondaryReplicationInfo()")
            yield _say("problem" if declared.get("votes") else "warning", "member-behind", message, remedy)


def _majority(status: Document, settings: MongoDB) -> Iterable[Finding]:
    times = status.get("optimes", {})
    if "lastCommittedWallTime" not in times or "lastAppliedWallTime" not in times:
        return
    behind = (times["lastAppliedWallTime"] - times["lastCommittedWallTime"]).total_seconds()
    if behind > MAJORITY_SECONDS:
        message = f"the majority is {behind:.0f} s behind: changes since then are told to nobody, and bounds grow"
        yield _say("problem", "majority-stands", message, mongosh(settings, "rs.status().members"))


def _lag(primary: Document, member: Document) -> float:
    """Seconds; 0 for a member that tells no time."""
    if "optimeDate" not in member or "optimeDate" not in primary:
        return 0.0
    return float((primary["optimeDate"] - member["optimeDate"]).total_seconds())


def _reconfigured(settings: MongoDB, config: Document, name: str, change: str) -> str:
    number = next(place for place, member in enumerate(config["members"]) if member["host"] == name)
    script = f"const c = rs.conf(); c.members[{number}].{change}; c.members[{number}].priority = 0; rs.reconfig(c)"
    return mongosh(settings, script)
