"""What is begun as a fork is what it would have been as a program of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from neverstale.ops.stack.process import Launch, RunningProcess, python
from tests.faults.rig.nursery import Nursery
from tests.support.waiting import eventually

TELL = """
import json, os, sys, time
print(json.dumps([sys.argv[1:], sys.orig_argv, os.getpgid(0), os.getcwd(), dict(os.environ), sys.stdin.read()]))
if sys.argv[1] == "wait":
    sys.stdout.flush()
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


async def at_once() -> bool:
    return True


@pytest.fixture
def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    (tmp_path / "told.py").write_text(TELL)
    monkeypatch.setenv("PYTHONPATH", f"{Path.cwd()}:{tmp_path}")
    nursery = Nursery(tmp_path / "nursery.log", ())
    yield nursery
    nursery.close()


def launched(tmp_path: Path, argument: str) -> Launch:
    argv = python("told", argument)
    return Launch(name="told", argv=argv, log=tmp_path / f"{argument}.log", ready=at_once, env={"SAID": argument})


async def said_something(process: RunningProcess) -> None:
    async def said() -> bool:
        return process.log.stat().st_size > 0

    await eventually(said, "a line of its log")


async def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_it_has_the_arguments_the_environment_the_log_and_the_group_of_its_own(
    nursery: Nursery, tmp_path: Path
) -> None:
    role = await nursery.role().start(launched(tmp_path, "3"))
    assert await role.wait() == 3
    arguments, original, group, folder, environment, said = json.loads(role.log.read_text())
    assert arguments == ["3"]
    assert original == [sys.executable, "-m", "told", "3"]
    assert group == role.pid
    assert folder == str(Path.cwd())
    assert environment == {**os.environ, "SAID": "3"}
    assert said == ""


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL])
async def test_a_signal_ends_it_and_is_how_it_ended(nursery: Nursery, tmp_path: Path, by: signal.Signals) -> None:
    role = await nursery.role().start(launched(tmp_path, "wait"))
    await said_something(role)
    assert role.alive
    role.signal(by)
    assert await role.wait() == -by
    assert role.ending == f"was ended by {by.name}"


async def test_it_ends_with_the_nursery(nursery: Nursery, tmp_path: Path) -> None:
    role = await nursery.role().start(launched(tmp_path, "wait"))
    await said_something(role)
    nursery.close()
    await eventually(lambda: gone(role.pid), "the end of what it has begun")


def test_a_command_has_the_streams_folder_arguments_and_exit_code_of_who_calls_it(
    nursery: Nursery, tmp_path: Path
) -> None:
    nursery.command(tmp_path / "tell", "told")
    ended = subprocess.run(
        [tmp_path / "tell", "3", "two words"],
        input="what is said",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"SAID": "so"},
        check=False,
    )
    arguments, _, _, folder, environment, said = json.loads(ended.stdout)
    assert (ended.returncode, ended.stderr) == (3, "")
    assert (arguments, folder, said) == (["3", "two words"], str(tmp_path), "what is said")
    assert environment.keys() - {"LC_CTYPE"} == {"SAID"}  # an interpreter sets the other by itself


def test_a_nursery_that_has_a_command_still_begins_roles(nursery: Nursery, tmp_path: Path) -> None:
    nursery.command(tmp_path / "tell", "told")
    begun = nursery.begin(launched(tmp_path, "4"))
    assert subprocess.run([tmp_path / "tell", "0"], check=False, capture_output=True).returncode == 0
    assert begun.wait() == 4
