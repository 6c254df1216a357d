"""What `neverstale check` and `neverstale doctor` have found, and how they say it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from rich.console import Console

from neverstale.ops.check.names import UNSEEN, WELL, FindingName
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
    "cluster",
    "replicas",
    "pubsub",
    "connections",
    "clocks",
    "exposure",
]
Subject = Literal["catalog", "settings", "mongodb", "kafka", "redis", "roles"]
Level = Literal["ok", "unknown", "warning", "problem"]
"""`unknown`: it could not be looked at. Only a `problem` makes a command end with 1."""
Wrong = Literal["warning", "problem"]

_STYLE: Final = {"ok": "green", "unknown": "cyan", "warning": "yellow", "problem": "bold red"}
_WIDEST: Final = {"level": 7, "check": 12, "subject": 8}


@dataclass(frozen=True, slots=True)
class Finding:
    check: Check
    subject: Subject
    level: Level
    name: FindingName | Literal["well", "unseen"]
    """Which of the things that may be wrong; it stays, whatever becomes of the message."""
    message: str
    remedy: str = ""
    """What to do, as a line to paste where there is one; empty where all is well."""


@dataclass(frozen=True, slots=True)
class Say:
    """Findings of one check about one thing: what is left to say is how bad it is, which it is, and what to do."""

    check: Check
    subject: Subject

    def __call__(self, level: Wrong, name: FindingName, message: str, remedy: str) -> Finding:
        return Finding(self.check, self.subject, level, name, message, remedy)

    def well(self, message: str, remedy: str = "") -> Finding:
        return Finding(self.check, self.subject, "ok", WELL, message, remedy)

    def unseen(self, message: str, remedy: str = "") -> Finding:
        """It could not be looked at."""
        return Finding(self.check, self.subject, "unknown", UNSEEN, message, remedy)


def about(check: Check, subject: Subject) -> Say:
    return Say(check, subject)


def has_problem(findings: Iterable[Finding]) -> bool:
    return any(finding.level == "problem" for finding in findings)


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """As JSON: `{ok, findings: [{check, subject, level, name, message, remedy}]}`; `ok` allows warnings."""
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
