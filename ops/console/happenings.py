"""What has happened: one line for each thing that differs from one look to the next, with what to do about it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from neverstale.ops.console.looks import LongLook, QuickLook
from neverstale.ops.console.samples import increase
from neverstale.ops.status import of_group, start_again

SERVERS: Final = {"mongodb": "MongoDB", "kafka": "Kafka", "redis": "Redis"}
NOTHING_TO_DO: Final = "nothing to do"


@dataclass(frozen=True, slots=True)
class PastEvent:
    at_ms: int
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class _Counted:
    metric: str
    what: str
    remedy: str
    labels: Mapping[str, str]


def _counted(metric: str, what: str, remedy: str = NOTHING_TO_DO, **labels: str) -> _Counted:
    return _Counted(f"neverstale_{metric}_total", what, remedy, labels)


COUNTED: Final = (
    _counted(
        "position_lost",
        "the position in the oplog was lost, and everything cached is void",
        "neverstale doctor  # says how far the oplog reaches, and how to make it larger",
    ),
    _counted(
        "redis_lacked",
        "replay: Redis lacked what had been applied to it, and the last minutes are applied again",
        "nothing to do; if it recurs: neverstale doctor  # persistence, replicas",
        action="replayed",
    ),
    _counted(
        "redis_lacked",
        "void: Redis lacked more than can be applied again, so all of it is read anew",
        "neverstale doctor  # persistence, replicas, consumer.replay_seconds",
        action="voided",
    ),
    _counted("offsets_lost", "void: a partition had no offset to go on at", "neverstale doctor  # topics: retention"),
    _counted("topic_made_anew", "void: the topic is another one of the same name", "neverstale doctor  # topics"),
    _counted(
        "redis_changed",
        "connections lead to another Redis: bounds are unknown until consumers have confirmed what it holds",
        "nothing to do; if it recurs: neverstale doctor  # replicas",
    ),
    _counted(
        "l1_voided",
        "a process of the API emptied its memory, since it may have missed announcements",
        "nothing to do; if it recurs: neverstale doctor  # pubsub",
    ),
    _counted(
        "audit_wrong",
        "an answer was wrong: the auditor has compared it with MongoDB",
        "neverstale invalidate --all  # and send us a support bundle: this must not be",
    ),
    _counted("rebalances", "partitions were shared out among consumers"),
    _counted("records_poison", "a record could not be applied: a dead letter", "neverstale dlq list"),
    _counted("generations_begun", "rebuild: lists, counters and rankings are built again"),
    _counted(
        "damaged", "something in Redis under our names is not ours", "see docs/operations.md, keep neighbours out"
    ),
    _counted("tasks_died", "a task died, and was started again", "see the log of that process"),
    _counted("stream_opened", "the watcher opened its stream", NOTHING_TO_DO),
    _counted("consumer_recoveries", "a consumer began again with another client of Kafka", "neverstale doctor"),
    _counted("kafka_refusals", "Kafka refuses what is asked of it", "neverstale check"),
    _counted("records_too_large", "a change was too large to be told: its collection is void", "neverstale doctor"),
)


def happened(before: QuickLook, after: QuickLook) -> Iterator[PastEvent]:
    """Everything that differs."""

    def told(what: str, remedy: str) -> PastEvent:
        return PastEvent(after.wall_ms, what, remedy)

    for server in after.status.servers:
        was, now = before.away.get(server.name), after.away.get(server.name)
        if now is not None and was is None:
            yield told(f"{SERVERS[server.name]} is away: {now}", "see what is wrong, above")
        elif was is not None and now is None:
            yield told(f"{SERVERS[server.name]} answers again", NOTHING_TO_DO)
    yield from (told(*one) for one in _processes(before, after))
    yield from (told(*one) for one in _terms(before, after))
    yield from (told(*one) for one in _floors(before, after))
    yield from (told(*one) for one in _counts(before, after))


def _processes(before: QuickLook, after: QuickLook) -> Iterator[tuple[str, str]]:
    was = {one.role.instance: one for one in before.processes}
    for one in after.processes:
        old, name = was.get(one.role.instance), f"the {one.role.role} {one.role.instance}"
        if one.presence == "answers":
            if old is None:
                yield f"{name} has started", NOTHING_TO_DO
            elif old.presence != "answers":
                yield f"{name} answers again", NOTHING_TO_DO
        elif one.presence == "silent" and old is not None and old.presence == "answers":
            yield f"{name} does not answer any more", f"kill -9 {one.role.pid}  # on {one.role.host}, if it stays so"
        elif one.presence == "gone" and old is not None and old.presence != "gone":
            yield f"{name} has ended", f"{start_again(one.role)}  # unless somebody else starts it"


def _terms(before: QuickLook, after: QuickLook) -> Iterator[tuple[str, str]]:
    """Of each watcher group: each has a lease of its own."""
    was, leaders = before.of_watchers("neverstale_watcher_term"), after.of_watchers("neverstale_watcher_leads")
    for group, (now, _) in after.of_watchers("neverstale_watcher_term").items():
        if (old := was.get(group, (0.0, ""))[0]) and now > old:
            leads, who = leaders.get(group, (0.0, ""))
            what = f"term {now:.0f}{of_group(group)} begins: {who if leads else 'a watcher'} watches"
            yield what, "nothing to do; see the log of the watcher before it"


def _floors(before: QuickLook, after: QuickLook) -> Iterator[tuple[str, str]]:
    """Of each collection once, in however many cells its floor has risen."""
    was = {(one.cell, one.name): one.version for one in before.status.registers}
    risen: dict[str, str] = {}
    for one in after.status.registers:
        old = was.get((one.cell, one.name))
        if one.name.startswith("floor ") and old is not None and one.version is not None and one.version > old:
            risen[one.name] = max(risen.get(one.name, ""), one.version)
    for name, version in risen.items():
        what = f"floor: what was read of {name.removeprefix('floor ')} before {version} is void"
        yield what, "nothing to do: readers fill it again"


def _counts(before: QuickLook, after: QuickLook) -> Iterator[tuple[str, str]]:
    was = {one.role.instance: one for one in before.processes}
    for counted in COUNTED:
        times = 0.0
        for one in after.processes:
            old = was.get(one.role.instance)
            if old is not None and old.samples:
                times += increase(old.samples, one.samples, counted.metric, **counted.labels)
            elif one.role.started_ms > before.wall_ms:
                times += increase(None, one.samples, counted.metric, **counted.labels)
        if times > 0:
            yield f"{counted.what}{f' ({times:.0f} times)' if times > 1 else ''}", counted.remedy


def phases_changed(before: LongLook, after: LongLook, at_ms: int) -> Iterator[PastEvent]:
    """Generations of what is derived that moved on."""
    if before.generations is None or after.generations is None:
        return
    for resource, generations in after.generations.items():
        was = {one.id: one.phase for one in before.generations.get(resource, ())}
        for one in generations:
            if was.get(one.id) != one.phase:
                yield PastEvent(at_ms, f"rebuild: generation {one.id} of {resource} is {one.phase}", NOTHING_TO_DO)
