"""Every command that the docs show can be typed as it stands: the shell takes it, and what it names is there with
those options. Commands run on real servers in `tests/integration/ops/test_documented.py`."""

import importlib.util
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from typer.main import get_command

from neverstale.ops import cli
from neverstale.ops.demo.flights.board import week
from tests.support.project import ROOT
from tests.unit.project.test_docs import DOCS, blocks

ENDS = frozenset(("|", "||", "&&", ";", "&", ">", ">>", "2>&1"))


WRONG_USE: type[Exception] = typer.BadParameter.__mro__[1]
"""typer carries a click of its own, whose errors it does not name."""


class Shown(NamedTuple):
    document: Path
    line: str


def commands() -> Iterator[Shown]:
    """Lines of shell blocks, and those behind a prompt in console blocks, each whole."""
    for document in DOCS:
        text = document.read_text(encoding="utf-8")
        lines = [line for block in blocks(text, "sh") for line in whole(block)]
        for block in blocks(text, "console"):
            lines += whole("\n".join(re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.M)))
        yield from (Shown(document, line) for line in lines)


def whole(block: str) -> list[str]:
    """The lines of a block without those of here-documents."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", block, flags=re.M | re.S))
    return [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def words_behind(line: str, *names: str) -> Iterator[list[str]]:
    """The arguments of each call of a program on a line."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        return  # a part of something longer; the shell has seen all of it
    for at, word in enumerate(words):
        if word.removeprefix("$(").rpartition("/")[2] in names and (at == 0 or not words[at - 1].startswith("-")):
            end = next((i for i in range(at + 1, len(words)) if words[i].rstrip(")") in ENDS), len(words))
            yield words[at + 1 : end]


def shown() -> list[Shown]:
    return list(commands())


@pytest.mark.parametrize("document", DOCS, ids=[str(path.relative_to(ROOT)) for path in DOCS])
def test_the_shell_takes_every_block(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    prompts = [line for block in blocks(text, "console") for line in re.findall(r"^\$ ((?:.*\\\n)*.*)", block, re.M)]
    script = "\n".join([*blocks(text, "sh"), *prompts])
    if script:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_every_command_of_ours_has_the_options_that_are_shown() -> None:
    root, wrong, seen = get_command(cli.app), [], 0
    for one in shown():
        for arguments in words_behind(one.line, "neverstale"):
            seen += 1
            if reason := refused(root, arguments):
                wrong.append(f"{one.document.relative_to(ROOT)}: neverstale {' '.join(arguments)}: {reason}")
    assert seen > 20
    assert wrong == []


def refused(root: Any, arguments: list[str]) -> str | None:
    """Why the command line does not take these arguments; they are read, not carried out."""
    command, rest, parent = root, [word for word in arguments if word not in ("…", "...")], None
    try:
        while hasattr(command, "resolve_command"):
            parent = command.make_context("neverstale", list(rest), parent=parent)
            name, found, rest = command.resolve_command(parent, [*parent._protected_args, *parent.args])
            if found is None:
                return f"there is no {name}"
            command = found
        command.make_context("neverstale", list(rest), parent=parent)
    except typer.Exit:
        return None  # --help, --version
    except WRONG_USE as error:
        return str(error)
    return None


def test_a_command_with_a_wrong_option_is_noticed() -> None:
    root = get_command(cli.app)
    assert refused(root, ["up", "--demo"]) is None
    assert refused(root, ["up", "--dem"]) is not None
    assert refused(root, ["upp"]) is not None
    assert refused(root, ["dlq", "list", "--jsn"]) is not None


def test_every_target_of_make_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    named = {words[0] for one in shown() for words in words_behind(one.line, "make") if words and "=" not in words[0]}
    assert {"demo", "bench-read"} <= named
    assert named - targets == set()


def test_every_module_that_is_run_is_there() -> None:
    modules = {
        words[1]
        for one in shown()
        for words in words_behind(one.line, "python", "python3")
        if len(words) > 1 and words[0] == "-m"
    }
    assert {name for name in modules if importlib.util.find_spec(name) is None} == set()


def test_every_flight_that_is_shown_is_one_of_the_week() -> None:
    """Somebody types it beside the demo."""
    known = {flight.key for flight in week().flights}
    flights = re.compile(r"2013-02-\d\d(?::|%3A)[A-Z0-9]+(?::|%3A)[A-Z]{3}\b")
    shown_keys = {
        (str(document.relative_to(ROOT)), key.replace("%3A", ":"))
        for document in DOCS
        for key in flights.findall(document.read_text(encoding="utf-8"))
    }
    assert len(shown_keys) > 5
    assert {(page, key) for page, key in shown_keys if key not in known} == set()
