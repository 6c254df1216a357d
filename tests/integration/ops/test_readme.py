"""README's tour as it stands: its shell block runs beside `neverstale up --demo`, and does what README says."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from neverstale.ops.stack.ports import free_port
from neverstale.ops.stack.process import PROJECT
from tests.support.project import ROOT
from tests.support.waiting import eventually

COMMAND = (sys.executable, "-m", "neverstale.ops.cli")
BOUND = re.compile(r"^neverstale-bound: ([\d.]+)", re.M)


def tour() -> str:
    """The block that README shows behind `up --demo`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block: str
    [block] = [block for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) if "demo/env" in block]
    return block


@asynccontextmanager
async def demo(folder: Path, port: int) -> AsyncIterator[Path]:
    """What README tells to run first; its output."""
    output = folder / "output"
    options = ("--data", str(folder / "demo"), "--api-port", str(port), "--console-port", "0", "--broker", "embedded")
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*COMMAND, "up", "--demo", *options, cwd=PROJECT, stdout=file)
    try:
        yield output
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


async def test_the_five_commands_of_the_readme_do_what_it_says(tmp_path: Path) -> None:
    port, shim = free_port(), tmp_path / "bin"
    shim.mkdir()
    for name, words in (("neverstale", COMMAND), ("python", COMMAND[:1])):
        (shim / name).write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
        (shim / name).chmod(0o755)
    script = tour().replace(".venv/bin/", f"{shim}/").replace(":8000/", f":{port}/")
    async with demo(tmp_path, port) as output:

        async def ready() -> bool:
            return "Ready. Ctrl-C" in output.read_text()

        await eventually(ready, "the demo is ready", seconds=100)
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        told, complaints = (text.decode() for text in await asyncio.wait_for(shell.communicate(), 60))
    assert shell.returncode == 0, told + complaints
    first, own, outage = told.replace("\r", "").split("HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in (first, own, outage)] == ["200", "200", "200"]
    assert all(BOUND.search(answer) for answer in (first, own, outage)), "each says how old it can be"
    assert "United Air Lines" in first and '"name":"United"}' in own
    assert "airlines UA" in own and "last change" in own, "neverstale why"
    assert '"name":"United"}' in outage
