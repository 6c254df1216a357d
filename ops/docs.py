"""The tables of the docs that are written from the code, and the width of all pages: `python -m neverstale.ops.docs`
(`make docs`) in the repository."""

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Final

from prometheus_client.metrics import MetricWrapperBase

from neverstale.ops import settings_report
from neverstale.ops.privileges import pages as security
from neverstale.ops.reflow import reflowed
from neverstale.role import telemetry

ROOT: Final = Path(__file__).resolve().parents[1]
BEGIN = "<!-- The table is written by `make docs`. -->"
MEASURED = "<!-- The table is written by `make docs` from docs/recovery.json. -->"
END = "<!-- End of the table. -->"


def with_table(document: str, table: str, begin: str = BEGIN) -> str:
    """The document with what stands between its markers replaced by the table."""
    head, found, rest = document.partition(begin)
    _, end, tail = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the document lacks {begin!r} or {END!r}")
    return f"{head}{begin}\n\n{table}\n\n{END}{tail}"


def metrics() -> str:
    """Every metric that is declared, in the order of the telemetry module."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    return "\n".join(lines + [_row(metric) for metric in _declared()])


def shown_by() -> str:
    """What shows each line of the tables of outages.md, as `docs/shown_by.toml` lists it: one line for each
    experiment and each test, with the file where it stands. `KeyError`: there is no such test."""
    lines = ["| what | shown by | in |", "|---|---|---|"]
    listed = tomllib.loads((ROOT / "docs" / "shown_by.toml").read_text(encoding="utf-8"))["line"]
    for line in listed:
        for place, name in enumerate(line["shown_by"]):
            what = line["what"] if place == 0 else ""
            where = f"`{files_of_tests()[name]}`" if name.startswith("test_") else "[experiments](faults.md)"
            lines.append(f"| {what} | `{name}` | {where} |")
    return "\n".join(lines)


def recovery() -> str:
    """How long each single fault was felt, and how long a role took to start, as `make recovery` has measured it."""
    held = json.loads((ROOT / "docs" / "recovery.json").read_text(encoding="utf-8"))
    lines = ["| fault | goal | median | most | start-up | lease | session, rebalance | rest | rounds | measured |"]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for name, one in held["faults"].items():
        goal = "" if one["goal_seconds"] is None else f"{one['goal_seconds']:g} s"
        causes = [one["causes"].get(cause) for cause in ("start-up", "lease", "group", "rest")]
        shares = [f"{median(some):.1f}" if some and median(some) >= 0.05 else "" for some in causes]
        cells = [name, goal, _seconds(median(one["seconds"])), _seconds(max(one["seconds"])), *shares]
        lines.append(f"| {' | '.join(cells)} | {len(one['seconds'])} | {_when(one)} |")
    lines += ["", "| start of a role | ready after, median | CPU until then, median | rounds | measured |"]
    lines.append("|---|---|---|---|---|")
    for role, one in held["starts"].items():
        cells = [role, _seconds(median(one["seconds"])), _seconds(median(one["cpu_seconds"]))]
        lines.append(f"| {' | '.join(cells)} | {len(one['seconds'])} | {_when(one)} |")
    return "\n".join(lines)


def _seconds(found: float) -> str:
    return f"{found:.1f} s" if found else "not felt"


def _when(measured: Mapping[str, Any]) -> str:
    return f"{measured['date']}, load {measured['load']:g} on {measured['cores']} cores"


@cache
def files_of_tests() -> Mapping[str, str]:
    """Every test, and its file from the root on."""
    return {
        name: str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.M)
    }


TABLES: Mapping[str, Callable[[], str]] = {
    "docs/settings.md": settings_report.reference,
    "docs/metrics.md": metrics,
    "docs/outages.md": shown_by,
    "docs/security.md": security.document,
}


MARKED: Mapping[str, tuple[str, Callable[[], str]]] = {"docs/outages.md": (MEASURED, recovery)}
"""Second tables: between which markers they stand."""


def pages() -> list[Path]:
    """The documents whose lines are wrapped."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _declared() -> Iterator[MetricWrapperBase]:
    yield from (held for held in vars(telemetry).values() if isinstance(held, MetricWrapperBase))


def _row(metric: MetricWrapperBase) -> str:
    [family] = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


if __name__ == "__main__":
    for name, table in TABLES.items():
        path = ROOT / name
        path.write_text(with_table(path.read_text(encoding="utf-8"), table()), encoding="utf-8")
    for name, (begin, table) in MARKED.items():
        path = ROOT / name
        path.write_text(with_table(path.read_text(encoding="utf-8"), table(), begin), encoding="utf-8")
    for path in pages():
        path.write_text(reflowed(path.read_text(encoding="utf-8")), encoding="utf-8")
