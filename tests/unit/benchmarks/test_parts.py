"""What a part's failure costs: that part. What the whole's costs: it is said, on the page and in the file."""

import asyncio
import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks import __main__ as everything
from benchmarks import parts, pressure, read
from benchmarks.parts import attempt, repeated
from benchmarks.serving import Load
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.process import PROJECT
from neverstale.ops.stack.stack import LocalStack

Work = Callable[[], Coroutine[Any, Any, Mapping[str, Any]]]


async def works() -> Mapping[str, Any]:
    return {"ratio": 6.5, "cpu_of_the_least": 0.8}


async def refuses() -> Mapping[str, Any]:
    raise AssertionError("the consumer did not apply\n  everything in time")


async def exits() -> Mapping[str, Any]:
    raise SystemExit("the consumer did not keep up")


async def hangs() -> Mapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def times_out() -> Mapping[str, Any]:
    raise TimeoutError("no answer")


@pytest.mark.parametrize(
    ("work", "found"),
    [
        (works, {"ratio": 6.5, "cpu_of_the_least": 0.8}),
        (refuses, {"wrong": "AssertionError: the consumer did not apply everything in time"}),
        (exits, {"wrong": "the consumer did not keep up"}),
        (hangs, {"wrong": "it was not done within 0.01 s"}),
        (times_out, {"wrong": "TimeoutError: no answer"}),
    ],
)
async def test_a_part_finds_something_or_says_why_not(work: Work, found: Mapping[str, Any]) -> None:
    assert await attempt(work(), 0.01) == found


async def test_rounds_that_fail_leave_the_others_theirs() -> None:
    async def once(number: int) -> int:
        if number == 1:
            await asyncio.Event().wait()
        if number == 2:
            raise OSError("gone")
        return number

    found, lost = await repeated(4, once, 0.01)
    assert found == [0, 3]
    assert lost == ["round 2: it was not done within 0.01 s", "round 3: OSError: gone"]


async def test_a_benchmark_whose_rounds_all_fail_says_why() -> None:
    async def once(number: int) -> int:
        raise OSError(f"gone {number}")

    with pytest.raises(SystemExit, match="round 1: OSError: gone 0; round 2: OSError: gone 1"):
        await repeated(2, once, 1)


async def test_an_interrupt_ends_a_part_and_all_others() -> None:
    with pytest.raises(KeyboardInterrupt):
        await attempt(interrupted(), 1)


async def interrupted() -> Mapping[str, Any]:
    raise KeyboardInterrupt


async def test_a_part_under_pressure_that_fails_leaves_the_lines_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = {"entries": 100_000, "body_bytes": 600, "held": 0.93, "rss_mb": 120.0}

    async def remembers() -> Mapping[str, Any]:
        return memory

    parts = {"misses": works, "stampede": exits, "memory": remembers, "workers": refuses}
    monkeypatch.setattr(pressure, "PARTS", {name: lambda *_, work=work: work() for name, work in parts.items()})
    found = await pressure.measure_parts(None, list(parts), 1)  # type: ignore[arg-type]
    lines = {line.figure: (line.here, line.good) for line in pressure.lines_of(found)}
    assert lines == {
        "misses, 200 at once ÷ one find for each": ("6.5", True),
        "CPU for a miss ÷ the least that could do the work": ("0.80", True),
        "stampede": ("failed: the consumer did not keep up", False),
        "resident MB with 93% of 100,000 answers of 600 bytes": ("120", False),
        "workers": ("failed: AssertionError: the consumer did not apply everything in time", False),
    }


class FakeBench:
    """Three servers: one answers, one is not installed, one answers once."""

    def __init__(self) -> None:
        self.asked = 0

    async def port(self, server: str) -> int | None:
        return None if server == "nginx" else 1

    async def load(self, server: str, seconds: int, headers: object, spread: object) -> Load:
        if server == "L2":
            self.asked += 1
            if self.asked > 2:
                raise OSError("wrk said nothing")
        return Load(100.0 if server == "L2" else 50.0, 1, 2, 0, 100, 10.0)


async def test_a_row_that_fails_keeps_its_rounds_and_leaves_the_others_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pause = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _: pause(0))
    rows = [row for row in read.ROWS if row.name in (read.BASELINE, read.L2, "nginx constant")]
    options = read.ReadOptions(rounds=3, rows=rows)
    figures = await read._rows(FakeBench(), options)  # type: ignore[arg-type]
    assert [len(figure.loads) for figure in figures] == [3, 1, 0]
    assert read.ratio(figures, read.L2, read.BASELINE) == 2.0, "of the rounds that both have"
    shown = read.show(figures)
    assert "not installed" in shown and "100" in shown
    told = {line.figure: line.here for line in read.lines_of(figures, {})}
    assert told[read.L2] == "1 rounds, then OSError: wrk said nothing"
    assert f"{read.L2} ÷ {read.BASELINE}" in told


def test_a_row_that_never_answers_says_why() -> None:
    figure = read.Figures(read.ROWS[1], wrong="OSError: gone")
    assert "OSError: gone" in read.show([figure])


def test_a_benchmark_that_ends_without_figures_leaves_the_others_theirs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(argv: Sequence[str], *, timeout: float, **_: object) -> subprocess.CompletedProcess[bytes]:
        part, file = argv[2].removeprefix("benchmarks."), Path(argv[-1])
        if part == "capture":
            raise subprocess.TimeoutExpired(argv, timeout)
        if part == "apply":
            file.write_text(
                json.dumps({"best": {"per_second": 70_000.0}, "max_rss_mb": 90.0, "lost": ["round 2: no reply"]})
            )
        if part == "latency":
            file.write_text(json.dumps({"rates": [], "wrong": {"200": "mongod cannot keep up"}}))
        return subprocess.CompletedProcess(argv, 3)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    assert everything.main(["--json", str(tmp_path / "all.json")]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "it was not done within 330 s" in told
    assert "70,000" in told and "round 2: no reply" in told
    assert "it ended with 3 and without" in told
    assert "mongod cannot keep up" in told
    assert set(json.loads((tmp_path / "all.json").read_text())) == {"capture", "apply", "derive", "latency"}


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
