"""Every row of the tables of outages names what shows it, and that exists."""

import re
from collections.abc import Iterator

import pytest

from tests.faults.experiments.catalogue import ALL
from tests.support.project import ROOT

SHOWN_BY = "shown by"


def rows() -> Iterator[tuple[str, str]]:
    """What is away or wrong, and what shows what becomes of it; of every table."""
    header: list[str] = []
    for line in (ROOT / "docs" / "outages.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and header and not set(line) <= set("|-"):
            assert len(cells) == len(header), line
            yield cells[0], cells[header.index(SHOWN_BY)]
        header = header or cells if cells else []


ROWS = [pytest.param(shown, id=what) for what, shown in rows()]
EXPERIMENTS = {experiment.number for experiment in ALL}
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.M)
}


def test_both_tables_are_found() -> None:
    assert len(ROWS) > 15


@pytest.mark.parametrize("shown", ROWS)
def test_every_row_names_experiments_or_tests_that_exist(shown: str) -> None:
    named = [name.strip() for name in shown.split(",")]
    unknown = [name for name in named if name not in EXPERIMENTS and name.strip("`") not in TESTS]
    assert unknown == []
