"""A started process: readiness, its end, and what it leaves behind."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.process import PROJECT, Launch, RunningProcess, together
from tests.support.waiting import eventually

OBEDIENT = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
{then}
"""


def launch(tmp_path: Path, code: str, ready: Callable[[], Awaitable[bool]] | None = None, **more: float) -> Launch:
    log = tmp_path / "program.log"

    async def has_spoken() -> bool:
        return log.exists() and log.read_bytes().endswith(b"\n")

    argv = [sys.executable, "-c", code]
    return Launch(
        name="program",
        argv=argv,
        log=log,
        ready=ready or has_spoken,
        remedy="try again",
        **more,  # type: ignore[arg-type]
    )


def exists(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has asked about yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def gone(pid: int) -> None:
    async def ended() -> bool:
        return not exists(pid)

    await eventually(ended, f"process {pid} is gone")


async def test_a_stopped_process_ended_by_sigterm(tmp_path: Path) -> None:
    process = await RunningProcess.start(launch(tmp_path, OBEDIENT))
    await process.stop()
    assert process.exit_code == -signal.SIGTERM


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    process = await RunningProcess.start(launch(tmp_path, STUBBORN))
    await process.stop(grace_seconds=0.1)
    assert process.exit_code == -signal.SIGKILL


async def test_a_frozen_process_still_stops_in_order(tmp_path: Path) -> None:
    process = await RunningProcess.start(launch(tmp_path, OBEDIENT))
    process.signal(signal.SIGSTOP)
    await process.stop()
    assert process.exit_code == -signal.SIGTERM


async def test_a_killed_process_is_gone_at_once(tmp_path: Path) -> None:
    process = await RunningProcess.start(launch(tmp_path, STUBBORN))
    process.kill()
    assert not process.alive
    assert not exists(process.pid)


async def test_leaving_the_context_stops_the_process(tmp_path: Path) -> None:
    async with await RunningProcess.start(launch(tmp_path, OBEDIENT)) as process:
        assert process.alive
    assert not process.alive


async def test_a_restarted_process_is_a_new_one_with_the_same_log(tmp_path: Path) -> None:
    async with await RunningProcess.start(launch(tmp_path, OBEDIENT)) as process:
        first = process.pid
        await process.restart()
        assert process.alive
        assert process.pid != first

        async def spoke_twice() -> bool:
            return process.log.read_text().split() == ["up", "up"]

        await eventually(spoke_twice, "both runs have written to the log")


async def test_a_signal_to_an_ended_process_does_nothing(tmp_path: Path) -> None:
    process = await RunningProcess.start(launch(tmp_path, OBEDIENT))
    process.kill()
    process.signal(signal.SIGTERM)
    assert process.exit_code == -signal.SIGKILL


async def test_a_failed_start_tells_the_exit_code_the_end_of_the_log_and_the_remedy(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    failing = launch(tmp_path, "print('no space left'); raise SystemExit(3)", never)
    with pytest.raises(StackError) as raised:
        await RunningProcess.start(failing)
    assert str(raised.value) == (
        f"program did not start: program exited with code 3, its log {failing.log} ends: no space left; try again"
    )


async def test_a_program_that_does_not_exist_is_a_failed_start(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    missing = Launch(name="program", argv=[tmp_path / "missing"], log=tmp_path / "program.log", ready=never)
    with pytest.raises(StackError, match="No such file"):
        await RunningProcess.start(missing)


async def test_a_process_that_is_not_ready_in_time_is_killed(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    shell = ["/bin/sh", "-c", "sleep 60 & echo $!; wait"]  # which has spoken long before that, on a busy machine too
    with pytest.raises(StackError, match=r"was not ready within 0\.5 s, its log .* ends: (\d+); try again") as raised:
        await RunningProcess.start(replace(launch(tmp_path, "", never, ready_seconds=0.5), argv=shell))
    await gone(int(str(raised.value).split("ends: ")[1].split(";")[0]))


async def test_children_of_an_ended_process_are_ended_too(tmp_path: Path) -> None:
    process = await RunningProcess.start(launch(tmp_path, WITH_CHILD.format(then="")))
    await process.wait()
    await gone(int(process.log.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no parent-death signal")
async def test_a_process_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    parent = f"""
import asyncio, pathlib, sys
from neverstale.ops.stack.process import Launch, RunningProcess
async def ready(): return True
async def main():
    argv = [sys.executable, "-c", {STUBBORN!r}]
    log = pathlib.Path({str(tmp_path / "program.log")!r})
    process = await RunningProcess.start(Launch(name="program", argv=argv, log=log, ready=ready))
    pathlib.Path({str(pid_file)!r}).write_text(f"{{process.pid}}\\n")
    await asyncio.sleep(60)
asyncio.run(main())
"""
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, cwd=PROJECT)

    async def told() -> bool:
        return pid_file.exists() and pid_file.read_text().endswith("\n")

    await eventually(told, "the parent has started its child")
    running.kill()
    await running.wait()
    await gone(int(pid_file.read_text()))


async def test_what_runs_together_fails_as_its_first_failure() -> None:
    async def fail() -> None:
        raise StackError("broken", "mend it")

    async def forever() -> None:
        await eventually(told_no, "never", seconds=60)

    async def told_no() -> bool:
        return False

    with pytest.raises(StackError, match="broken; mend it"):
        await together(forever(), fail())
