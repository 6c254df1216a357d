"""The docs say what the code does."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from neverstale.catalog import Catalog, FieldType, OnChange, Resource
from neverstale.keys import KeyType
from neverstale.ops import cli
from neverstale.ops.docs import MARKED, TABLES, pages, with_table
from neverstale.ops.reflow import reflowed
from neverstale.ops.settings_report import reference
from neverstale.role import telemetry
from neverstale.settings.sources import NOT_SETTINGS, fields, load, secret_files, variable
from tests.support.project import ROOT

DOCS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)

SHORT = 60
"""Letters of a line that may stand twice on a page."""

every_document = pytest.mark.parametrize("document", DOCS, ids=[str(path.relative_to(ROOT)) for path in DOCS])


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of one language, without the indentation of a list that holds them."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.M | re.S)
    return [re.sub(rf"^{indent}", "", block, flags=re.M) for indent, block in found]


@pytest.mark.parametrize("name", TABLES)
def test_generated_tables_are_as_the_code_has_them(name: str) -> None:
    assert read(name) == with_table(read(name), TABLES[name]()), "run: make docs"


@pytest.mark.parametrize("name", MARKED)
def test_what_was_measured_is_shown_as_it_was_recorded(name: str) -> None:
    begin, table = MARKED[name]
    assert read(name) == with_table(read(name), table(), begin), "run: make docs"


def test_every_registered_metric_is_documented() -> None:
    text = read("docs/metrics.md")
    families = [family for family in telemetry.REGISTRY.collect() if family.name.startswith("neverstale_")]
    assert "`process_resident_memory_bytes`" in text, "those of the Prometheus client are named, too"
    assert [family.name for family in families if f"| `{family.name}" not in text] == []


def test_every_setting_has_a_meaning() -> None:
    assert [name for name, field in fields().items() if not field.description] == []


def test_the_reference_shows_no_secret() -> None:
    assert "***" not in reference()


def test_a_document_without_the_markers_is_not_overwritten() -> None:
    with pytest.raises(ValueError, match="lacks"):
        with_table("# Settings\n", "")


def test_variables_that_are_no_settings_are_documented_too() -> None:
    text = read("docs/settings.md")
    assert [name for name in NOT_SETTINGS if f"`{name}" not in text] == []


def test_every_field_of_a_resource_is_documented() -> None:
    text = read("docs/catalog.md")
    names = [name for name in Resource.model_fields if name != "name"]
    assert [name for name in (*Catalog.model_fields, *names) if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("choices", [FieldType, OnChange, KeyType])
def test_every_choice_of_the_catalog_is_documented(choices: object) -> None:
    text = read("docs/catalog.md")
    assert [choice for choice in get_args(choices) if f"`{choice}`" not in text] == []


def test_the_defaults_of_a_resource_are_documented() -> None:
    text = read("docs/catalog.md")
    for name in ("ttl_seconds", "absent_ttl_seconds", "on_change"):
        assert f"| `{name}` | `{Resource.model_fields[name].default}` |" in text


@every_document
def test_declarations_in_the_docs_are_valid(document: Path, tmp_path: Path) -> None:
    for block in blocks(document.read_text(encoding="utf-8"), "toml"):
        path = tmp_path / "example.toml"
        path.write_text(block, encoding="utf-8")
        if "database" in tomllib.loads(block):
            Catalog.load(path)
        else:
            load({}, path)


@every_document
def test_variables_in_the_docs_exist(document: Path) -> None:
    known = {variable(name) for name in fields()} | NOT_SETTINGS | set(secret_files())
    named = set(re.findall(r"NEVERSTALE_[A-Z0-9_]*[A-Z](?![A-Z_…*])", document.read_text(encoding="utf-8")))
    assert {name for name in named if not name.startswith("NEVERSTALE_TEST_")} <= known


@every_document
def test_commands_in_the_docs_exist(document: Path) -> None:
    known = set(get_command(cli.app).commands)  # type: ignore[attr-defined]
    assert set(commands(document.read_text(encoding="utf-8"))) <= known


def commands(text: str) -> Iterator[str]:
    """Every `neverstale <command>` in code."""
    for code in (*re.findall(r"`([^`\n]+)`", text), *blocks(text, "console")):
        yield from re.findall(r"(?:^|\$ |/)neverstale ([a-z-]+)\b", code, re.M)


@every_document
def test_make_targets_in_the_docs_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`make ([a-z]+)", text) + re.findall(r"^\$ make ([a-z]+)", text, re.M)
    assert set(named) <= targets


@every_document
def test_links_between_the_docs_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", document.read_text(encoding="utf-8"))
    assert [link for link in targets if not leads_somewhere(document, *link)] == []


def leads_somewhere(document: Path, target: str, anchor: str) -> bool:
    page = document.parent / target if target else document
    return page.exists() and (not anchor or anchor in anchors(page))


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading)).strip().lower().replace(" ", "-")
        for heading in headings
    }


@every_document
def test_nothing_is_said_twice_on_a_page(document: Path) -> None:
    """Two branches that were merged may both bring a line."""
    prose = re.sub(r"^```.*?^```|^<!--.*?-->$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = [line for line in prose.splitlines() if len(line) > SHORT and not line.startswith("|  |")]
    assert [line for line, times in Counter(lines).items() if times > 1] == []
    rows = [tuple(line.split("|")[1:3]) for line in lines if line.startswith("| ") and document.name == "http.md"]
    assert [row for row, times in Counter(rows).items() if times > 1] == []


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_wrapped_at_a_hundred_characters(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == reflowed(text), "run: make docs"
