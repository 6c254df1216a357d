"""One word for one thing: a class name stands for one class."""

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.support.project import ROOT

PACKAGES = ("neverstale", "streams", "consumers", "api", "ops")


def classes() -> Iterator[tuple[str, str]]:
    """Name and place of every class; a private one belongs to its module alone."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    yield node.name, str(path.relative_to(ROOT))


def test_no_class_name_stands_for_two_classes() -> None:
    places = defaultdict(list)
    for name, place in classes():
        places[name].append(place)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
