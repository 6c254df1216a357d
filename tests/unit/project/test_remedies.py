"""Remedies are lines to paste: the command line takes each of them."""

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from neverstale.ops import cli
from tests.support.project import ROOT

COMMAND = get_command(cli.app)
ROOMS = ("api", "consumers", "neverstale", "ops", "streams")
SHOWN = re.compile(r"^(?:.*: )?(neverstale (?!import )[a-z].*)$")
"""A line, or what follows a colon, as in `if it recurs: neverstale doctor`."""
NAMED = re.compile("neverstale (?!import )")
"""What a module with such a line has in it; most have not, and need not be parsed."""
ANYTHING = "watcher"
"""Stands for what is only known when the remedy is given: a role, a resource, a key."""


def remedies() -> Iterator[str]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if NAMED.search(source := path.read_text()):
                yield from (line for text in texts(ast.parse(source)) for line in commands(text))


def texts(tree: ast.AST) -> Iterator[str]:
    """Every string of a module that is no docstring, with something in the place of what is filled in."""
    nodes = list(ast.walk(tree))
    docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield filled(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and {id(node)}.isdisjoint(docs | parts):
            yield node.value


def filled(text: ast.JoinedStr) -> str:
    """What is filled in right behind a word is an option with its space, or nothing."""
    line = ""
    for part in text.values:
        line += str(part.value) if isinstance(part, ast.Constant) else "" if line[-1:].isalnum() else ANYTHING
    return line


def commands(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if (found := SHOWN.match(line)) and found[1].split()[1] in COMMAND.commands:  # type: ignore[attr-defined]
            yield found[1]


def taken(command: Any, words: list[str]) -> None:
    """Parse as the command line does, and run nothing. Raises what it would say to whoever typed it."""
    if hasattr(command, "commands"):
        name, *words = words
        taken(command.commands[name], words)
    else:
        command.make_context("neverstale", words)


@pytest.mark.parametrize("line", sorted(set(remedies())))
def test_the_command_line_takes_what_it_is_told_to_paste(line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    taken(COMMAND, words)


def test_what_the_command_line_does_not_take_is_found() -> None:
    with pytest.raises(Exception, match=r"(?i)missing"):
        taken(COMMAND, ["resync"])
