"""The tables of the docs that are written from the code, and the width of all pages: `python -m neverstale.ops.docs`
(`make docs`) in the repository."""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from prometheus_client.metrics import MetricWrapperBase

from neverstale.ops import settings_report
from neverstale.ops.privileges import pages as security
from neverstale.ops.reflow import reflowed
from neverstale.role import telemetry

ROOT: Final = Path(__file__).resolve().parents[1]
BEGIN = "<!-- The table is written by `make docs`. -->"
END = "<!-- End of the table. -->"


def with_table(document: str, table: str) -> str:
    """The document with what stands between its markers replaced by the table."""
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN!r} or {END!r}")
    return f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}"


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
    for path in pages():
        path.write_text(reflowed(path.read_text(encoding="utf-8")), encoding="utf-8")
