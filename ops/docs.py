"""The tables of the docs that are written from the code: `python -m ops.docs` (`make docs`) in the repository."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from neverstale.role import telemetry
from ops import settings_report

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


TABLES: Mapping[str, Callable[[], str]] = {"docs/settings.md": settings_report.reference, "docs/metrics.md": metrics}


def _declared() -> Iterator[MetricWrapperBase]:
    yield from (held for held in vars(telemetry).values() if isinstance(held, MetricWrapperBase))


def _row(metric: MetricWrapperBase) -> str:
    [family] = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


if __name__ == "__main__":
    for name, table in TABLES.items():
        path = Path(name)
        path.write_text(with_table(path.read_text(encoding="utf-8"), table()), encoding="utf-8")
