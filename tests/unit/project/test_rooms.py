"""A room that fills up, and a file that grows, are two by now."""

import re
from collections import Counter
from itertools import takewhile
from pathlib import Path

import pytest

from tests.support.project import ROOT

PACKAGES = ("api", "consumers", "neverstale", "ops", "streams")
MOST_MODULES = 16
MOST_LINES = 400
SOURCES = [path for package in PACKAGES for kind in ("py", "lua") for path in (ROOT / package).rglob(f"*.{kind}")]
MODULES = Counter(path.parent for path in SOURCES if path.name != "__init__.py")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("room", sorted(MODULES), ids=named)
def test_no_room_has_more_than_sixteen_modules(room: Path) -> None:
    assert MODULES[room] <= MOST_MODULES


def test_no_module_has_more_than_four_hundred_lines() -> None:
    lines = {named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert len(lines) > 250
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def is_room(path: Path) -> bool:
    """The links in `neverstale` lead to rooms that are shown where they are."""
    return (path / "__init__.py").exists() and not path.is_symlink()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_house_in_contributing_shows_every_room_and_no_other(package: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, house = text.partition("## The house\n\n```\n")
    lines = house.partition("```")[0].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{package}/"))
    rooms = takewhile(lambda line: line.startswith("  "), lines[first + 1 :])
    shown = {name for line in rooms for name in re.split(r" {3,}", line.strip())[0].split()}
    assert shown == {path.name for path in (ROOT / package).glob("*") if is_room(path)}
