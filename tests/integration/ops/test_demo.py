"""The demo as people run it: the whole pipeline under load, an oracle that believes nothing, and its controls."""

import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from neverstale.ops.demo.main import DemoOptions, demo
from tests.support.waiting import is_alive, runs

FLIGHTS_AND_ALL = 6104 + 16 + 1458 + 200
GENTLE: dict[str, Any] = {"readers": 4, "reads_per_second": 100, "writes_per_second": 50}
"""Load that leaves a busy machine room for what a test is about."""


def play(folder: Path, **options: Any) -> tuple[int, dict[str, Any], str]:
    """Exit code, figures and what was printed."""
    text = StringIO()
    figures = folder / "figures.json"
    code = demo(DemoOptions(json=figures, **options), Console(file=text, width=200))
    assert figures.exists(), text.getvalue()
    return code, json.loads(figures.read_text()), text.getvalue()


@pytest.mark.usefixtures("forked_roles")
@pytest.mark.timeout(240)
def test_the_oracle_notices_a_cache_that_is_spoiled_behind_its_back(tmp_path: Path) -> None:
    code, figures, printed = play(tmp_path, seconds=5, sabotage=True, broker="embedded", **GENTLE)
    assert code == 1 and not figures["ok"]
    assert figures["stale_after_convergence"]["k"] > 0
    assert figures["server_errors"] == 0 and figures["failed_writes"] == 0
    assert "Something is wrong" in printed


@pytest.mark.usefixtures("forked_roles")
@pytest.mark.timeout(400)
def test_killing_every_role_and_server_under_load_leaves_nothing_stale(tmp_path: Path) -> None:
    code, figures, printed = play(tmp_path, seconds=5, chaos=True, **GENTLE)
    assert code == 0, printed
    assert figures["ok"] and "Every answer kept its word" in printed
    assert set(figures["recovery_seconds"]) >= {"watcher-1", "consumer-1", "consumer-2", "api-1", "Redis", "MongoDB"}
    truths = ("stale_after_convergence", "wrong_boards", "violated_bounds", "foreign_answers", "unwritten_answers")
    for count in truths:
        assert figures[count]["k"] == 0 and figures[count]["n"] > 0
    assert figures["stale_after_convergence"]["n"] == FLIGHTS_AND_ALL
    assert figures["stale_after_convergence"]["hits"] > 0
    assert figures["wrong_boards"]["n"] > 200 and figures["violated_bounds"]["n"] > 100
    assert figures["changes"] > 100 and figures["write_to_corrected_seconds"]["n"] > 0


@pytest.mark.timeout(240)
def test_an_interrupt_ends_everything_that_was_started() -> None:
    command = [sys.executable, "-m", "neverstale.ops.cli", "demo", "--seconds", "600", "--broker", "embedded"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as run:
        assert run.stdout is not None
        started = wait_for_readers(run.pid)
        run.send_signal(signal.SIGINT)
        printed = run.stdout.read()
        assert run.wait(60) == 1
    assert "nothing was checked" in printed
    assert not list(filter(is_alive, started))


def wait_for_readers(pid: int, seconds: float = 90.0) -> list[psutil.Process]:
    """The demo's children, once the readers are among them."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        children = psutil.Process(pid).children(recursive=True)
        if any(runs(child, "neverstale.ops.demo.readers") for child in children):
            return children
        time.sleep(0.05)
    raise AssertionError("the readers did not start")
