"""docs/limits.md names settings that there are, with their defaults, and tests that there are."""

import ast
import re

import pytest

from neverstale.catalog import Resource
from neverstale.settings.sources import fields
from tests.support.project import ROOT

TEXT = (ROOT / "docs/limits.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")]
LIMITS = [row for row in ROWS if "::" in row[-1]]


def test_there_is_a_table() -> None:
    assert len(LIMITS) > 15
    assert {len(row) for row in ROWS} == {5}


@pytest.mark.parametrize("row", LIMITS, ids=[row[0][:40] for row in LIMITS])
def test_a_limit_is_as_the_settings_have_it(row: list[str]) -> None:
    _, limit, default, *_ = row
    names = re.findall(r"`([a-z_.]+)`", limit)
    if not names:
        assert default == "fixed"
        return
    (name,) = names
    field = fields()[name] if "." in name else Resource.model_fields[name]
    assert default == f"`{field.default}`"


def test_every_setting_of_clients_is_in_the_table() -> None:
    assert [name for name in fields() if name.startswith("clients.") and f"`{name}`" not in TEXT] == []


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(tests/[a-z_/]+\.py::\w+)`", TEXT))))
def test_a_test_that_shows_a_limit_exists(named: str) -> None:
    path, _, test = named.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
