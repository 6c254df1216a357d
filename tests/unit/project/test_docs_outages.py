"""Every line of the tables of outages names what shows it, and that exists."""

import tomllib
from collections.abc import Iterator

import pytest

from neverstale.ops.docs import BEGIN, files_of_tests
from tests.faults.experiments.catalogue import ALL
from tests.support.project import ROOT

LISTED = {
    line["what"]: line["shown_by"]
    for line in tomllib.loads((ROOT / "docs" / "shown_by.toml").read_text(encoding="utf-8"))["line"]
}
EXPERIMENTS = {experiment.number for experiment in ALL}
MEASURED = ("fault", "start of a role")
"""Head the tables of what `make recovery` measures: they show themselves."""


def lines() -> Iterator[str]:
    """What is away, wrong or blamed: the first cells of the tables that are written by hand, but for measurements."""
    header: list[str] = []
    for line in (ROOT / "docs" / "outages.md").read_text(encoding="utf-8").partition(BEGIN)[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and header and not set(line) <= set("|-"):
            assert len(cells) == len(header), line
            if header[0] not in MEASURED:
                yield cells[0]
        header = header or cells if cells else []


def test_each_line_has_something_that_shows_it_and_nothing_else_is_listed() -> None:
    assert len(LISTED) > 25
    assert list(lines()) == list(LISTED)
    assert all(LISTED.values())


@pytest.mark.parametrize("what", LISTED)
def test_every_line_names_experiments_or_tests_that_exist(what: str) -> None:
    assert [name for name in LISTED[what] if name not in EXPERIMENTS and name not in files_of_tests()] == []
