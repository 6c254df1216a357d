"""What is wrong now, the most telling first, each with what to do about it.

Nothing is judged here that `status` or `doctor` judges: their sentences are shown. What only somebody who looks on
can see is added: a process that was there and is silent, and what processes say of themselves.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from neverstale.ops.check.findings import Finding, Subject, about
from neverstale.ops.check.paste import mongosh, redis_cli
from neverstale.ops.console.looks import GroupLook, LongLook, ProcessLook, QuickLook
from neverstale.ops.console.samples import most
from neverstale.ops.doctor import group, oplog
from neverstale.ops.doctor.group import GroupProgress
from neverstale.ops.status import (
    group_option,
    named_partitions,
    of_group,
    start_again,
    works_for,
    wrong_answers,
)
from neverstale.settings import Settings
from neverstale.watcher_groups import settings_of

T = TypeVar("T")

SILENT_SECONDS: Final = 3.0
"""A process that is busy for a moment is not told of."""
_MEANS: Final[dict[Subject, str]] = {
    "mongodb": "what is cached is still served, and grows older; everything else is refused",
    "kafka": "no change reaches the cache; answers from it grow older, and say so",
    "redis": "reads go to MongoDB, as many as it may be asked at once; the others are refused",
}
ALWAYS: Final = ("apply_ops",)
"""Parts of `/readyz` that say what holds always with this MongoDB: they stand beside the process."""
AFTER_WRONG_ANSWERS: Final = (
    "neverstale invalidate --all  # what is cached is read anew; counters and rankings: neverstale rebuild RESOURCE\n"
    "neverstale support-bundle  # send us that file: this must not be"
)
_reachable, _letters = about("reachable", "roles"), about("group", "kafka")


def findings(
    look: QuickLook, long_looks: Sequence[LongLook], silent: Mapping[str, float], settings: Settings
) -> list[Finding]:
    """`long_looks`: the oldest first; `silent`: instance -> seconds for which it has said nothing."""
    found = [
        *_wrong_answers(look),
        *_servers_away(look, settings),
        *_silent(look, long_looks, silent),
        *_groups(look, long_looks, settings),
        *_said_by_processes(look),
        *_letters_left(long_looks),
        *_oplog(long_looks, settings),
    ]
    return sorted(found, key=lambda one: one.level != "problem")


def _wrong_answers(look: QuickLook) -> Iterator[Finding]:
    """What an auditor has caught us at: nothing weighs more."""
    for sentence in wrong_answers(look.status.audit):
        yield _reachable("problem", "answers-were-wrong", sentence, AFTER_WRONG_ANSWERS)


def _servers_away(look: QuickLook, settings: Settings) -> Iterator[Finding]:
    servers: tuple[tuple[Subject, str, str], ...] = (
        ("mongodb", "MongoDB", mongosh(settings.mongodb, "rs.status()")),
        ("kafka", "Kafka", f"kafka-topics --bootstrap-server {settings.kafka.bootstrap_servers} --list"),
        ("redis", "Redis", redis_cli(settings.redis, "PING")),
    )
    for subject, name, remedy in servers:
        if (problem := look.away.get(subject)) is not None:
            message = f"{name} cannot be used ({problem}): {_MEANS[subject]}"
            say = about("reachable", subject)
            yield say("problem", "no-answer", message, f"{remedy}  # if that fails, start {name}")


def _silent(look: QuickLook, long_looks: Sequence[LongLook], silent: Mapping[str, float]) -> Iterator[Finding]:
    for one in look.processes:
        seconds = silent.get(one.role.instance, 0.0)
        if one.presence == "silent" and seconds >= SILENT_SECONDS:
            message = (
                f"the {one.role.role} {named(one)} takes connections and has answered nothing for {seconds:.0f} s: "
                f"it is frozen, or has far too much to do{_waits_for(one, long_looks)}"
            )
            remedy = f"kill -9 {one.role.pid}  # on {one.role.host}\n{start_again(one.role)}"
            yield _reachable("problem", "process-silent", message, remedy)


def _waits_for(one: ProcessLook, long_looks: Sequence[LongLook]) -> str:
    """What nobody does meanwhile."""
    held = [
        f"{named_partitions(numbers)}{of_group(name)}"
        for name, known in _known(long_looks, lambda group: group.progress).items()
        if (numbers := [number for number, each in known[-1].offsets.items() if each.by == one.role.instance])
    ]
    if held:
        return f"; the changes of {', '.join(held)} wait for it, until Kafka gives them to another consumer"
    return {"watcher": "; changes are not told", "api": "; its readers wait"}.get(one.role.role, "")


def _known(long_looks: Sequence[LongLook], part: Callable[[GroupLook], T | None]) -> dict[str, list[T]]:
    """By watcher group, what was seen of it where it could be asked, the oldest first."""
    found: dict[str, list[T]] = {}
    for each in long_looks:
        for name, one in each.groups.items():
            if (seen := part(one)) is not None:
                found.setdefault(name, []).append(seen)
    return found


def named(one: ProcessLook) -> str:
    return f"{one.role.instance} (process {one.role.pid} on {one.role.host})"


def _groups(look: QuickLook, long_looks: Sequence[LongLook], settings: Settings) -> Iterator[Finding]:
    """As `doctor` says it, from two looks that lie some seconds apart; what is alike for several groups once."""
    if look.away.keys() & {"redis", "kafka"}:
        return  # nothing is known of roles and partitions
    silent = _silent_roles(look)
    known = _known(long_looks, lambda each: each if each.facts is not None and each.progress is not None else None)
    if not any(len(seen) > 1 for seen in known.values()):
        yield from (
            _reachable("problem", "role-missing", f"no {role} runs", f"neverstale run {role}")
            for role in look.status.missing_roles
            if role not in silent
        )
        return
    told: set[Finding] = set()
    for name, seen in known.items():
        if len(seen) < 2:
            continue
        first, last = seen[0], seen[-1]
        assert first.progress is not None and last.progress is not None and last.facts is not None
        explained = _explained(look, name, last.progress)
        status, of = look.status.of_group(name), settings_of(settings, name)
        for finding in group.judge(status, last.facts, first.progress, last.progress, of, name, explained=explained):
            hides = finding.subject == "roles" and any(f"no {role} runs" in finding.message for role in silent)
            if finding.level != "ok" and not hides and finding not in told:
                told.add(finding)
                yield finding


def _explained(look: QuickLook, name: str, progress: GroupProgress) -> Collection[int]:
    """Partitions that stand because a process is frozen, which is said with what to do: not twice, in other words."""
    watchers = [one for one in look.processes if one.role.role == "watcher" and works_for(one.role, name)]
    if any(one.presence == "silent" for one in watchers) and not any(
        one.presence == "answers" and one.samples.total("neverstale_watcher_leads") for one in watchers
    ):
        return progress.offsets.keys()
    silent = {one.role.instance for one in look.processes if one.presence == "silent"}
    return [number for number, each in progress.offsets.items() if each.by in silent]


def _silent_roles(look: QuickLook) -> set[str]:
    return {one.role.role for one in look.processes if one.presence == "silent"}


def _said_by_processes(look: QuickLook) -> Iterable[Finding]:
    said: dict[tuple[str, str], list[str]] = {}
    for one in look.processes:
        for part, wrong in one.wrong.items():
            if part not in (*look.away, *ALWAYS):
                said.setdefault((part, wrong), []).append(f"the {one.role.role} {one.role.instance}")
    for (part, wrong), who in said.items():
        message = f"{part}: {wrong} (says {', '.join(who)})"
        yield _reachable("warning", "process-says", message, "neverstale doctor")


def _letters_left(long_looks: Sequence[LongLook]) -> Iterator[Finding]:
    for name, seen in _known(long_looks, lambda each: each.letters).items():
        if letters := seen[-1]:
            plural = "s" * (letters > 1)
            message = (
                f"{letters} record{plural}{of_group(name)} could not be applied: what they named is read from MongoDB"
            )
            yield _letters("warning", "letters-left", message, f"neverstale dlq list{group_option(name)}")


def _oplog(long_looks: Sequence[LongLook], settings: Settings) -> Iterator[Finding]:
    last = next((one for one in reversed(long_looks) if one.oplog is not None), None)
    if last is None or last.oplog is None:
        return
    found = [
        one
        for name, each in last.groups.items()
        for one in oplog.judge(last.oplog, each.position, settings_of(settings, name), name)
        if one.level != "ok"
    ]
    yield from dict.fromkeys(found)


def bound_of(look: QuickLook) -> float | None:
    """Seconds: how old an answer from the cache may be at most, by the process that knows least; NaN: unknown;
    `None`: no process of the API says so."""
    return most((one.samples for one in look.answering("api")), "neverstale_bound_seconds")
