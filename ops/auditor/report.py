"""`neverstale audit`: its table, and its JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from neverstale.ops.auditor.counts import WINDOWS, About, AuditCounts, total
from neverstale.ops.auditor.record import by_resource
from neverstale.ops.terminal.output import console, plain, print_json, table


def print_audit(
    found: Mapping[About, AuditCounts],
    evidence: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """As JSON: `{ok, total, resources, violations, problems}`, counts as in `neverstale.redis.audit`."""
    whole = total(found.values())
    if as_json:
        print_json(
            {
                "ok": is_ok(whole),
                "total": whole.as_json(),
                "resources": by_resource(found),
                "violations": list(evidence),
                "problems": list(problems),
            }
        )
        return
    console().print(audit_table(by_resource(found)))
    told = whole.as_json()
    share = f"{told['wrong']} of {whole.checked:,} answers were wrong"
    print(f"{share}: at most {told['wrong_at_most']:.2g} of all, {told['nines']} nines, at 95 %")
    for one in evidence:
        print(f"wrong: {one['path']} ({one['what']}, age {one['age_seconds']} s, bound {one['bound_seconds']})")
    for problem in problems:
        print(f"problem: {problem}")
    if not whole.checked:
        print("nothing could be checked")


def audit_table(resources: Mapping[str, Mapping[str, Any]]) -> Any:
    """One row for each resource and kind."""
    windows = [f"stale {window:g} s" for window in WINDOWS]
    shown = table("audit", "", "checked", "wrong", "permanent", "nines", *windows, "worst age", "undecided")
    for resource, kinds in resources.items():
        for kind, counts in kinds.items():
            found = [counts["stale"].get(f"{window:g}", {"count": 0}) for window in WINDOWS]
            stale = [str(one["count"]) for one in found]
            shown.add_row(
                plain(resource),
                kind,
                f"{counts['checked']:,}",
                str(counts["wrong"]),
                str(counts["permanent"]),
                str(counts["nines"]),
                *stale,
                f"{counts['worst_age_seconds']:g} s",
                f"{counts['undecided']:,}",
            )
    return shown


def is_ok(whole: AuditCounts) -> bool:
    """Something was checked, and nothing of it was wrong."""
    return whole.checked > 0 and whole.wrong == 0
