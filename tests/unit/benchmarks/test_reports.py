"""Every benchmark that writes figures: one whose servers do not start, or that finds nothing in its time, says so."""

import asyncio
import json
from argparse import Namespace
from collections.abc import Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import parts
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.process import PROJECT
from neverstale.ops.stack.stack import LocalStack

UMBRELLAS: Final = {"__main__", "six"}
"""They run others, each in a process of its own."""
COMMANDS: Final = sorted(
    path.stem
    for path in (PROJECT / "benchmarks").glob("*.py")
    if "def main(arguments: Sequence[str]" in (text := path.read_text())
    and ("--json" in text or "parts.options" in text)
    and path.stem not in UMBRELLAS
)


def test_they_are_all_found() -> None:
    assert {"apply", "backlog", "capture", "cells", "derive", "idle", "latency", "live", "read"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_benchmark_without_servers_says_why_in_its_figures_too(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def refused(_: object) -> Any:
        raise StackError("mongod did not start", "look at its log")
        yield

    monkeypatch.setattr(LocalStack, "start", refused)
    file = tmp_path / "figures.json"
    assert import_module(f"benchmarks.{name}").main(["--within", "5", "--json", str(file)]) == 1
    assert "mongod did not start" in file.read_text()
    assert "mongod did not start" in " ".join(capsys.readouterr().out.split())


def given(file: Path, within: float) -> Namespace:
    return Namespace(within=within, json=file)


async def slow(number: int) -> int:
    if number:
        await asyncio.Event().wait()
    return number


def test_rounds_end_with_the_time_of_the_whole(tmp_path: Path) -> None:
    found, lost = parts.measured("rounds", parts.repeated(3, slow, 100), given(tmp_path / "f", 0.05)) or ([], [])
    assert found == [0]
    assert len(lost) == 2 and lost[1] == f"round 3: {parts.NO_TIME}"


@pytest.mark.parametrize("error", [AssertionError, TimeoutError, SystemExit, OSError])
def test_a_benchmark_that_fails_writes_why(error: Callable[[str], BaseException], tmp_path: Path) -> None:
    async def fails() -> int:
        raise error("no reply")

    assert parts.measured("it", fails(), given(tmp_path / "f", 5)) is None
    assert "no reply" in json.loads((tmp_path / "f").read_text())["wrong"]
