"""What `neverstale check` and `neverstale doctor` have found, and how they say it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, TypeAlias

from rich.console import Console

from neverstale.ops.terminal.output import console, plain, print_json

Check = Literal[
    # What must hold before anything starts, which `check` looks at:
    "declared",
    "callers",
    "reachable",
    "versions",
    "replica-set",
    "collections",
    "privileges",
    "indexes",
    "references",
    "topics",
    "memory",
    # … and what shows only while the pipeline runs, which `doctor` looks at beside it:
    "oplog",
    "group",
    "persistence",
    "replicas",
    "pubsub",
    "connections",
    "clocks",
    "exposure",
]
Subject = Literal["catalog", "settings", "mongodb", "kafka", "redis", "roles"]
Level = Literal["ok", "unknown", "warning", "problem"]
"""`unknown`: it could not be looked at. Only a `problem` makes a command end with 1."""

_STYLE: Final = {"ok": "green", "unknown": "cyan", "warning": "yellow", "problem": "bold red"}
_WIDEST: Final = {"level": 7, "check": 12, "subject": 8}


@dataclass(frozen=True, slots=True)
class Finding:
    check: Check
    subject: Subject
    level: Level
    message: str
    remedy: str = ""
    """What to do, as a line to paste where there is one; empty where all is well."""


Say: TypeAlias = Callable[..., Finding]


def about(check: Check, subject: Subject) -> Say:
    """Findings of one check about one thing: what is left to say is level, message and remedy."""

    def say(level: Level, message: str, remedy: str = "") -> Finding:
        return Finding(check, subject, level, message, remedy)

    return say


def has_problem(findings: Iterable[Finding]) -> bool:
    return any(finding.level == "problem" for finding in findings)


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """As JSON: `{ok, findings: [{check, subject, level, message, remedy}]}`; `ok` allows warnings."""
    if as_json:
        print_json({"ok": not has_problem(findings), "findings": [asdict(finding) for finding in findings]})
        return
    out = console()
    for finding in findings:
        _print(out, finding)


def _print(out: Console, finding: Finding) -> None:
    """A line, and its remedy on the next, neither of them wrapped: what is copied from there can be pasted."""
    level, check, subject = (f"{getattr(finding, name):<{width}}" for name, width in _WIDEST.items())
    out.print(f"[{_STYLE[finding.level]}]{level}[/]  {check}  {subject}  {plain(finding.message)}", soft_wrap=True)
    for line in finding.remedy.splitlines():
        out.print(" " * (sum(_WIDEST.values()) + 6) + plain(line), soft_wrap=True)
