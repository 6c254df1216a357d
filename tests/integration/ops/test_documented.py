"""Every command that README and the docs show is run, in the order of its page, beside one `neverstale up --demo`.

What cannot be run here is listed with its reason, and nothing else is left out. That the shell takes every block and
that all options are there is asked in `tests/unit/project/test_commands.py`.
"""

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from neverstale.ops.demo.flights.play import demo_catalog
from neverstale.ops.stack.ports import free_port
from neverstale.ops.stack.process import PROJECT
from tests.faults.rig.nursery import Nursery
from tests.support.project import ROOT
from tests.support.waiting import eventually
from tests.unit.project.test_docs import DOCS, blocks

COMMAND: Final = (sys.executable, "-m", "neverstale.ops.cli")
BOUND: Final = re.compile(r"^neverstale-bound: ([\d.]+)", re.M)
AT_ONCE: Final = 3
SECONDS: Final = 120.0
ENDLESS_SECONDS: Final = 2

NOT_RUN: Final[Mapping[str, str]] = {
    r"docker compose ": "wants Docker; tests/unit/project/test_compose.py reads the file",
    r"curl http://localhost:8002/": "asks what Docker has started",
    r"kubectl ": "wants Kubernetes; tests/unit/project/test_kubernetes.py reads what it applies",
    r"kafka-(acls|configs)\.sh ": "wants a broker with users; tests/integration/secure sets up what it says",
    r"pip install ": "wants a package registry",
    r"(cd clients/typescript|npx )": "wants npm; tests/integration/api tests the client",
    r"make (demo|faults|bench-read)": "takes minutes; tests/integration/ops/test_demo.py and tests/faults run it",
    r"NEVERSTALE_(REDIS_SERVER|TEST_MONGOS_URI)=.* pytest": "the tests themselves, on servers of the reader's",
    r"neverstale warm flights$": "reads what `warm` in the catalog says; the demo's says nothing",
    r"\.venv/bin/neverstale up": "does not end; it is what all else here runs beside",
    r"(NEVERSTALE_\w+=\S+ )?neverstale run ": "does not end; every test of roles starts one so",
}
"""What a line begins with, and why it is not run."""

REPLACED: Final = (
    (".venv/bin/", ""),
    ("/etc/neverstale/", "./"),
    ("mongodb://127.0.0.1:27017/shop", '"$NEVERSTALE_MONGODB__URI" --database nyc --force'),
    ("--rate 500", "--rate 5000"),
    ("curl ", "curl --silent --show-error --fail-with-body "),
    ("nsk_…", "nsk_key"),
    (" -N ", f" --max-time {ENDLESS_SECONDS} -N "),
)
FINE: Final = {"--max-time": (0, 28), "neverstale": (0, 1)}
"""Exit codes: a live read goes on until its time is over; 1 is a problem that was found, 2 would be wrong use."""


@dataclass(frozen=True, slots=True)
class Page:
    """A document's commands, in its order."""

    document: Path
    lines: Sequence[str]


def tour() -> str:
    """The block that README shows behind `up --demo`."""
    [block] = [
        block for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"), "sh") if "demo/env" in block
    ]
    return block


def pages() -> Iterator[Page]:
    for document in [*DOCS, ROOT / "deploy" / "kubernetes" / "README.md"]:
        text = document.read_text(encoding="utf-8")
        shown: list[str] = re.findall(r"^ *```(?:sh|console)\n.*?^ *```", text, re.M | re.S)
        lines = [line for block in shown for line in _commands(block) if tour() not in block]
        if lines:
            yield Page(document, lines)


def _commands(block: str) -> Iterator[str]:
    if block.lstrip().startswith("```console"):
        yield from re.findall(r"^ *\$ ((?:.*\\\n)*.*)", block, re.M)
        return
    body = "\n".join(block.splitlines()[1:-1])
    for line in re.sub(r"\\\n\s*", "", body).splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line


def why_not(line: str) -> str | None:
    return next((reason for begin, reason in NOT_RUN.items() if re.match(begin, line)), None)


@dataclass(frozen=True, slots=True)
class Demo:
    folder: Path
    port: int

    def room_of(self, page: Page) -> Path:
        """A folder for what its commands write."""
        room = self.folder / page.document.stem
        room.mkdir(exist_ok=True)
        shutil.copyfile(demo_catalog(), room / "new.toml")
        return room

    async def shell(self, script: str, where: Path) -> tuple[int | None, str]:
        """Run what a page shows; the exit code and all that was said."""
        script = script.replace(":8000/", f":{self.port}/")
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", f"source {self.folder}/demo/env\n{script}"),
            cwd=where,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "PATH": f"{self.folder}/bin:{os.environ['PATH']}"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await asyncio.wait_for(process.communicate(), SECONDS)
        except TimeoutError:
            process.kill()
            return None, f"it did not end within {SECONDS:g} s"
        return process.returncode, said.decode()


@asynccontextmanager
async def demo(folder: Path, nursery: Nursery) -> AsyncIterator[Demo]:
    """What README tells to run first. All other commands are begun as forks: most of their work are imports."""
    port, output, shims = free_port(), folder / "output", folder / "bin"
    shims.mkdir()
    nursery.command(shims / "neverstale", COMMAND[-1])
    (shims / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (shims / "python").chmod(0o755)
    options = ("--data", str(folder / "demo"), "--api-port", str(port), "--console-port", "0", "--broker", "embedded")
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*COMMAND, "up", "--demo", *options, cwd=PROJECT, stdout=file)
    try:

        async def ready() -> bool:
            return "Ready. Ctrl-C" in output.read_text()

        await eventually(ready, "the demo is ready", seconds=100)
        yield Demo(folder, port)
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


async def walk_through(page: Page, stage: Demo, room: asyncio.Semaphore) -> list[str]:
    """What of a page does not work."""
    wrong: list[str] = []
    async with room:
        where = stage.room_of(page)
        for line in page.lines:
            if why_not(line) is not None:
                continue
            typed = line
            for shown, instead in REPLACED:
                typed = typed.replace(shown, instead)
            began = time.monotonic()
            code, said = await stage.shell(typed, where)
            print(f"{time.monotonic() - began:6.1f} s  {code}  {page.document.name}: {typed}")
            allowed = next((codes for begin, codes in FINE.items() if begin in typed), (0,))
            if code not in allowed or "Traceback" in said:
                wrong.append(f"{page.document.relative_to(ROOT)}: {line}\n  → {code}: {said[-600:]}")
    return wrong


@pytest.mark.timeout(300)  # a few dozen processes, on a machine that has other things to do
async def test_every_command_of_readme_and_docs_does_what_its_page_says(tmp_path: Path, nursery: Nursery) -> None:
    async with demo(tmp_path, nursery) as stage:
        room = asyncio.Semaphore(AT_ONCE)
        wrong = await asyncio.gather(*(walk_through(page, stage, room) for page in pages()))
        code, told = await stage.shell(tour().replace(".venv/bin/", ""), tmp_path)
    assert [each for page in wrong for each in page] == []
    assert code == 0, told
    first, own, outage = told.replace("\r", "").split("HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in (first, own, outage)] == ["200", "200", "200"]
    assert all(BOUND.search(answer) for answer in (first, own, outage)), "each says how old it can be"
    assert "United Air Lines" in first and '"name":"United"}' in own
    assert "airlines UA" in own and "last change" in own, "neverstale why"
    assert '"name":"United"}' in outage


def test_nothing_is_left_out_without_need() -> None:
    lines = [line for page in pages() for line in page.lines]
    used = {begin for begin in NOT_RUN if any(re.match(begin, line) for line in lines)}
    assert used == set(NOT_RUN), "a reason that no line needs is taken out"
    run = [line for line in lines if why_not(line) is None]
    assert len(run) > 2 * (len(lines) - len(run)) // 3
