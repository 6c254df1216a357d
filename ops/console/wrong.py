"""What is wrong now, the most telling first, each with what to do about it.

Nothing is judged here that `status` or `doctor` judges: their sentences are shown. What only somebody who looks on
can see is added: a process that was there and is silent, and what processes say of themselves.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from neverstale.ops.check.findings import Finding, Subject, about
from neverstale.ops.check.paste import mongosh, redis_cli
from neverstale.ops.console.looks import LongLook, ProcessLook, QuickLook
from neverstale.ops.console.samples import most
from neverstale.ops.doctor import group, oplog
from neverstale.ops.doctor.group import GroupProgress
from neverstale.ops.status import missing_roles, named_partitions, wrong_answers
from neverstale.settings import Settings

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
        *_group(look, long_looks, settings),
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
            remedy = f"kill -9 {one.role.pid}  # on {one.role.host}\nneverstale run {one.role.role}"
            yield _reachable("problem", "process-silent", message, remedy)


def _waits_for(one: ProcessLook, long_looks: Sequence[LongLook]) -> str:
    """What nobody does meanwhile."""
    known = [each.progress for each in long_looks if each.progress is not None]
    offsets = known[-1].offsets if known else {}
    if held := [number for number, each in offsets.items() if each.by == one.role.instance]:
        return f"; the changes of {named_partitions(held)} wait for it, until Kafka gives them to another consumer"
    return {"watcher": "; changes are not told", "api": "; its readers wait"}.get(one.role.role, "")


def named(one: ProcessLook) -> str:
    return f"{one.role.instance} (process {one.role.pid} on {one.role.host})"


def _group(look: QuickLook, long_looks: Sequence[LongLook], settings: Settings) -> Iterator[Finding]:
    """As `doctor` says it, from two looks that lie some seconds apart."""
    if look.away.keys() & {"redis", "kafka"}:
        return  # nothing is known of roles and partitions
    known = [one for one in long_looks if one.group is not None and one.progress is not None]
    if len(known) < 2:
        yield from (
            _reachable("problem", "role-missing", f"no {role} runs", f"neverstale run {role}")
            for role in missing_roles(look.status.roles)
            if role not in _silent_roles(look)
        )
        return
    first, last = known[0], known[-1]
    assert first.progress is not None and last.progress is not None and last.group is not None
    explained = _explained(look, last.progress)
    status = look.status.of_group(last.watcher_group)
    for finding in group.judge(status, last.group, first.progress, last.progress, settings, explained=explained):
        silent = finding.subject == "roles" and any(
            f"no {role} runs" in finding.message for role in _silent_roles(look)
        )
        if finding.level != "ok" and not silent:
            yield finding


def _explained(look: QuickLook, progress: GroupProgress) -> Collection[int]:
    """Partitions that stand because a process is frozen, which is said with what to do: not twice, in other words."""
    if any(one.role.role == "watcher" and one.presence == "silent" for one in look.processes) and not any(
        one.samples.total("neverstale_watcher_leads") for one in look.answering("watcher")
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
    letters = next((one.letters for one in reversed(long_looks) if one.letters is not None), None)
    if letters:
        message = f"{letters} record{'s' * (letters > 1)} could not be applied: what they named is read from MongoDB"
        yield _letters("warning", "letters-left", message, "neverstale dlq list")


def _oplog(long_looks: Sequence[LongLook], settings: Settings) -> Iterator[Finding]:
    last = next((one for one in reversed(long_looks) if one.oplog is not None), None)
    if last is not None and last.oplog is not None:
        yield from (one for one in oplog.judge(last.oplog, last.position, settings) if one.level != "ok")


def bound_of(look: QuickLook) -> float | None:
    """Seconds: how old an answer from the cache may be at most, by the process that knows least; NaN: unknown;
    `None`: no process of the API says so."""
    return most((one.samples for one in look.answering("api")), "neverstale_bound_seconds")
