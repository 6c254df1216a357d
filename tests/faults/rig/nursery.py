"""Roles that begin as forks of a process that has imported all of ours already.

A role spends most of the CPU seconds of its start on imports, and experiments start hundreds of roles. What is begun
here is a process of its own all the same, with its own group, log and environment, that runs the same module with the
same arguments. It cannot tell the difference, but by how soon it is ready.

    python -m tests.faults.rig.nursery MODULE...

imports these, and then answers each line of its standard input with a line: what to begin with its process id, the id
of one that has ended with how it ended. It ends with its input; what it has begun is then told so, as by
`neverstale.ops.stack.leash`.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from neverstale.ops.stack.leash import PR_SET_PDEATHSIG
from neverstale.ops.stack.process import PROJECT, Launch, Program
from neverstale.ops.stack.role import RunningRole

IMPORTED: Final = (
    "neverstale.api.main",
    "neverstale.consumers.main",
    "neverstale.streams.main",
    "neverstale.ops.cli.start",
    "uvicorn.lifespan.on",
    "tests.faults.rig.sabotage",
)
POLL_SECONDS: Final = 0.005


class Nursery:
    """The process that is forked, as seen from the one that asks it; started when it is first asked."""

    def __init__(self, log: Path, imported: Sequence[str] = IMPORTED) -> None:
        self._log = log
        self._imported = imported
        self._process: subprocess.Popen[bytes] | None = None

    def role(self) -> type[RunningRole]:
        """Roles that begin here."""

        class ForkedRole(RunningRole):
            def _begin(role) -> Program:  # noqa: N805 - `self` is the nursery
                return self.begin(role.launch)

        return ForkedRole

    def begin(self, launch: Launch) -> "Forked":
        """Begin `python -m MODULE ARGUMENT...`."""
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        launch.log.touch()
        _, dash, *command = map(str, launch.argv)
        assert dash == "-m", f"no module: {launch.argv}"
        wanted = {
            "command": command,
            "folder": str(Path.cwd()),
            "log": str(launch.log.absolute()),
            "environment": {**os.environ, **launch.env},
            "death_signal": int(launch.death_signal),
        }
        pid = self._ask(wanted)
        return Forked(pid, self, os.pidfd_open(pid))

    def reap(self, pid: int) -> int:
        """How one that has ended did so, in the terms of `Popen.returncode`. Only once for each."""
        return self._ask({"reap": pid})

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()

    def _ask(self, wanted: Mapping[str, Any]) -> int:
        if self._process is None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __name__, *self._imported],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=PROJECT,
                    process_group=0,
                )
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(json.dumps(wanted).encode() + b"\n")
        asked.flush()
        return int(answers.readline())


@dataclass
class Forked:
    """A `Program` whose parent is the nursery. Its id stays its own until it is reaped, here."""

    pid: int
    nursery: Nursery
    descriptor: int
    returncode: int | None = field(default=None, init=False)

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self.descriptor], [], [], 0)[0]:
            os.close(self.descriptor)
            self.returncode = self.nursery.reap(self.pid)
        return self.returncode

    def wait(self) -> int:
        while (code := self.poll()) is None:
            time.sleep(POLL_SECONDS)
        return code


def main(imported: Sequence[str]) -> None:
    for name in imported:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin.buffer:
        wanted = json.loads(line)
        answer = _reaped(wanted["reap"]) if "reap" in wanted else _forked(wanted)
        print(answer, file=answers, flush=True)


def _reaped(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _forked(wanted: Mapping[str, Any]) -> int:
    parent = os.getpid()
    if pid := os.fork():
        os.setpgid(pid, pid)  # both do it: whoever comes first
        return pid
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, wanted["death_signal"], 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    return _become(wanted)


def _become(wanted: Mapping[str, Any]) -> NoReturn:
    """What a fresh interpreter would be, but for the modules that it has."""
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(wanted["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    module, *arguments = wanted["command"]
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    sys.orig_argv[:] = [sys.executable, "-m", module, *arguments]  # what it is when it starts again in place
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    raise SystemExit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
