"""Roles that begin as forks of a process that has imported all of ours already.

A role spends most of the CPU seconds of its start on imports, and experiments start hundreds of roles. What is begun
here is a process of its own all the same, with its own group, log and environment, that runs the same module with the
same arguments. It cannot tell the difference, but by how soon it is ready.

    python -m tests.faults.rig.nursery MODULE...

imports these, and then answers each line of its standard input with a line: what to begin with its process id, the id
of one that has ended with how it ended, an address where it listens from then on (see `Nursery.command`) with 0. It
ends with its input; what it has begun is then told so, as by `neverstale.ops.stack.leash`.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import secrets
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import IO, Any, Final, NoReturn

from neverstale.ops.stack.leash import PR_SET_PDEATHSIG
from neverstale.ops.stack.process import PROJECT, Launch, Program
from neverstale.ops.stack.role import RunningRole

IMPORTED: Final = (
    "neverstale.api.main",
    "neverstale.consumers.main",
    "neverstale.streams.main",
    "neverstale.ops.check.check",
    "neverstale.ops.cli.start",
    "neverstale.ops.dead_letters.dead_letters",
    "neverstale.ops.doctor.doctor",
    "neverstale.ops.repair.invalidate",
    "neverstale.ops.repair.rebuild",
    "neverstale.ops.terminal.output",
    "neverstale.ops.why.why",
    "uvicorn.lifespan.on",
    "tests.faults.rig.sabotage",
)
POLL_SECONDS: Final = 0.005
COMMAND: Final = """\
#!{python} -IS
import json, os, socket, sys
asking = socket.socket(socket.AF_UNIX)
asking.connect({address!r})
wanted = {{"command": [{module!r}, *sys.argv[1:]], "folder": os.getcwd(), "environment": dict(os.environ)}}
socket.send_fds(asking, [b"."], [0, 1, 2])
asking.sendall(json.dumps(wanted).encode() + b"\\n")
sys.exit(int(asking.makefile().readline() or 1))
"""
"""What is put into a file that people would call: it begins the module as a fork, and ends as that does."""


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

    def command(self, file: Path, module: str) -> None:
        """Make a program of a module: what calls it has its streams, folder, environment, arguments and exit code."""
        address = f"\0neverstale-{secrets.token_hex(8)}"  # a path of a test may be too long for a socket
        self._ask({"listen": address})
        file.write_text(COMMAND.format(python=sys.executable, address=address, module=module))
        file.chmod(0o755)

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
    calls = Calls()
    while True:
        heard = calls.heard(sys.stdin.buffer)
        if not heard:
            continue
        if not (line := sys.stdin.buffer.readline()):
            return
        wanted = json.loads(line)
        if "listen" in wanted:
            answer = calls.listen(wanted["listen"])
        elif "reap" in wanted:
            answer = _reaped(wanted["reap"])
        else:
            answer = _forked(wanted)
        print(answer, file=answers, flush=True)


class Calls:
    """Who calls a command, and what runs for them."""

    def __init__(self) -> None:
        self._listening: list[socket.socket] = []
        self._running: dict[int, tuple[int, socket.socket]] = {}
        """By a descriptor that tells of the end: what runs, and who waits for it."""

    def listen(self, address: str) -> int:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(address)
        listening.listen(64)
        self._listening.append(listening)
        return 0

    def heard(self, asked: IO[bytes]) -> bool:
        """Wait for anything, and see to the callers; whether there is something in `asked`."""
        anything: list[Any] = [asked, *self._listening, *self._running]
        ready, _, _ = select.select(anything, [], [])
        for one in ready:
            if isinstance(one, socket.socket):
                self._begin(one.accept()[0])
            elif isinstance(one, int):
                self._ended(one)
        return asked in ready

    def _begin(self, caller: socket.socket) -> None:
        _, streams, _, _ = socket.recv_fds(caller, 1, 3)
        wanted = json.loads(caller.makefile().readline())
        pid = _forked(wanted | {"streams": streams, "death_signal": Signals.SIGKILL})
        for each in streams:
            os.close(each)
        self._running[os.pidfd_open(pid)] = pid, caller

    def _ended(self, descriptor: int) -> None:
        pid, caller = self._running.pop(descriptor)
        os.close(descriptor)
        with caller:
            caller.sendall(b"%d\n" % (_reaped(pid) % 256))


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
    streams = wanted["streams"] if "streams" in wanted else _logging_to(wanted["log"])
    for target, source in enumerate(streams):
        os.dup2(source, target)
    for each in {*streams}:
        os.close(each)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    module, *arguments = wanted["command"]
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    sys.orig_argv[:] = [sys.executable, "-m", module, *arguments]  # what it is when it starts again in place
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    raise SystemExit(0)


def _logging_to(path: str) -> tuple[int, int, int]:
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    return os.open(os.devnull, os.O_RDONLY), log, log


if __name__ == "__main__":
    main(sys.argv[1:])
