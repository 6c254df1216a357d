"""A derived kind is known in few files: who deals with all kinds walks over what is declared, and names none."""

import ast
import re
from functools import cache
from typing import Final

import pytest

from neverstale.catalog.declarations import DECLARED, KIND_NAMES
from neverstale.derived.kinds.kind import DerivedKind
from neverstale.derived.kinds.table import KINDS
from tests.support.project import ROOT
from tests.unit.project.test_rooms import PACKAGES

MOST_FILES: Final = 5
"""That a kind touches: more, and the design is not done (CONTRIBUTING.md)."""
DECLARED_IN: Final = "neverstale/catalog/declarations.py"
CLASSES: Final = {
    "lists": r"(List|Page)(Declaration|Shape|Source|Endpoint|Comparison)|Lists|page_sources",
    "counters": r"Counter(Declaration|Shape|Source|Endpoint|Comparison|Drift)|Counters|counters_of",
    "rankings": r"(Rank|Ranking)(Declaration|Shape|Source|Endpoint|Comparison|Drift)|Rankings|rankings_of",
    "lookups": r"Lookup(Source|Endpoint|Subject)|Lookups|lookup_sources",
}
MODULES: Final = {"lists": "pages"}
"""Whose module of sources is called otherwise."""
ENTRIES: Final = ("lists", "lookups")
"""Kinds that the cache holds as entries: every reader must know of those."""

FEATURES: Final = {
    "api/derived/totals.py": "a list's total is told by a counter",
    "api/endpoints/derived/lists.py": "a list's total is told by a counter",
    "api/warm.py": "pages are warmed, for groups that are counted",
    "neverstale/catalog/resource.py": "pages are warmed; look-ups are a field of their own",
    "neverstale/catalog/lookups.py": "look-ups are kept as lists",
    "neverstale/derived/generations.py": "tags vouch while a generation is being built",
    "neverstale/derived/kinds/lookups.py": "look-ups are kept as lists",
    "api/derived/grouped.py": "look-ups are kept as lists",
    "api/callers/access.py": "what the fast path answers",
    "api/hits/fast_path.py": "what the fast path answers",
    "api/hits/request_lines.py": "what the fast path answers",
    "api/live/subjects.py": "documents inside pages are followed",
    "api/web/route_names.py": "a value that is looked up stands in the path",
    "neverstale/client/reads.py": "a method of its own for whoever calls from Python",
    "ops/auditor/counts.py": "a list is audited page by page",
    "ops/auditor/judging/told.py": "cursors of pages are signed",
    "ops/demo/flights/play.py": "what the demo reads",
    "ops/init/draft.py": "what a first catalog proposes",
}
"""What uses some kinds for more than being one of them, and why. None of it is needed of a new kind."""

SOURCES: Final = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def names(kind: str, tree: ast.AST) -> bool:
    """Whether code names a kind: its field of the catalog, its name in a text that is used, or its classes."""
    text = re.compile(rf"{kind}|{kind}\..*|.*\.{kind}\..*|.*/-/{kind}/.*", re.DOTALL)
    named = re.compile(CLASSES.get(kind, kind))
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=attr) if attr == kind:
                return True
            case ast.Name(id=name) if named.fullmatch(name):
                return True
            case ast.Constant(value=str(value)) if id(node) not in said and text.fullmatch(value):
                return True
    return False


def own_files(kind: str) -> set[str]:
    """The files that a kind is made of; what is large in the kernel has a room."""
    return {
        *(("api/derived/sources.py",) if kind in ENTRIES else ()),
        DECLARED_IN,
        f"neverstale/derived/kinds/{kind}.py",
        f"api/derived/{MODULES.get(kind, kind)}.py",
        f"api/endpoints/derived/{kind}.py",
    }


@cache
def named_in(kind: str) -> frozenset[str]:
    perhaps = re.compile(rf"\b{kind}\b|{CLASSES.get(kind, kind)}")  # parsing all of them takes its time
    texts = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in SOURCES}
    found = {path for path, text in texts.items() if perhaps.search(text) and names(kind, ast.parse(text))}
    return frozenset(path for path in found if not path.startswith(f"neverstale/derived/{kind}/"))


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_kind_is_named_in_its_own_files_and_where_it_is_used_for_more(kind: str) -> None:
    found = named_in(kind)
    assert found - FEATURES.keys() <= own_files(kind)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_kind_touches_five_files_at_most(kind: str) -> None:
    own = own_files(kind)
    assert len(own) <= MOST_FILES
    assert [path for path in sorted(own) if not (ROOT / path).is_file()] == []


def test_every_exception_is_one() -> None:
    named = {path for kind in KIND_NAMES for path in named_in(kind)}
    assert FEATURES.keys() - named == set()


def test_every_kind_that_is_declared_has_a_kernel_half() -> None:
    assert tuple(KINDS) == KIND_NAMES == (*DECLARED, "lookups")
    assert all(isinstance(kind, DerivedKind) for kind in KINDS.values())


@pytest.mark.parametrize(
    "code",
    ["one.counters", "f('counters')", "f(f'{name}.counters.{x}')", "CounterDeclaration()", "f('/v1/-/counters/b')"],
)
def test_code_that_names_a_kind_is_found(code: str) -> None:
    assert names("counters", ast.parse(code))


@pytest.mark.parametrize("code", ["collections.Counter()", "'''Of counters.x.'''", "one.counter", "counter_of(one)"])
def test_other_code_is_not(code: str) -> None:
    assert not names("counters", ast.parse(code))
