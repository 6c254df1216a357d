"""`neverstale up` as a process, with real servers and stand-ins for the roles."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from io import StringIO
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from neverstale.ops.stack.process import PROJECT
from neverstale.ops.up import UpOptions, up
from tests.support.waiting import eventually

CATALOG = 'database = "nyc"\n[resources.flights]\nkey_type = "string"\n'
STAND_IN = PROJECT / "tests" / "support" / "stand_in_role.py"
COMMAND = f"""
import asyncio, os, sys
from pathlib import Path
from neverstale.settings.sources import load
from neverstale.ops.stack import revival, role
revival.MOST_DEATHS = 3
from neverstale.ops.up import UpOptions, up
role.python = lambda module, *arguments: (sys.executable, {str(STAND_IN)!r}, *arguments)
folder = Path(sys.argv[1])
config = folder / "neverstale.toml"
settings, origins = load(os.environ, config if config.exists() else None)
options = UpOptions(
    data=folder / "data",
    catalog=folder / "catalog.toml",
    broker="embedded",
    consumers=2,
    settings=settings,
    origins=origins,
    config=config if config.exists() else None,
)
sys.exit(asyncio.run(up(options)))
"""


class Up:
    """A running `up`, and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text()

    async def says(self, words: str) -> None:
        async def said() -> bool:
            return words in self.output

        await eventually(said, f"up says {words!r}", seconds=60)

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 30)


@asynccontextmanager
async def running_up(folder: Path, behaviour: str = "", **variables: str) -> AsyncIterator[Up]:
    (folder / "catalog.toml").write_text(CATALOG)
    output = folder / "output"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", COMMAND, str(folder)),
            cwd=PROJECT,
            env={**os.environ, "STAND_IN": behaviour, **variables},
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        yield Up(process, output)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def processes_of(folder: Path) -> list[str]:
    """Names of the servers and roles that carry the folder in their command, environment or place."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = [*process.cmdline(), *process.environ().values(), process.cwd()]  # Redis hides the others
            if any(str(folder / "data") in word or str(folder / "catalog") in word for word in words):
                found.append(process.name())
    return found


async def test_up_runs_until_it_is_asked_to_stop_and_leaves_nothing_running(tmp_path: Path) -> None:
    async with running_up(tmp_path) as running:
        await running.says("Ready. Ctrl-C stops everything.")
        assert processes_of(tmp_path)
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
        for role in ("watcher-1", "consumer-1", "consumer-2", "api-1"):
            assert f"{role} stopped" in running.output
        assert running.output.index("api-1 stopped") < running.output.index("Redis stopping")
    assert processes_of(tmp_path) == []


async def test_the_env_file_leads_a_shell_to_the_stack(tmp_path: Path) -> None:
    async with running_up(tmp_path) as running:
        await running.says("Ready")
        script = f". {tmp_path}/data/env; echo $NEVERSTALE_MONGODB__URI"
        shell = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=asyncio.subprocess.PIPE)
        uri = (await shell.communicate())[0].decode().strip()
        assert uri.startswith("mongodb://127.0.0.1:")
        assert uri in running.output


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no parent-death signal")
async def test_nothing_outlives_an_up_that_was_killed(tmp_path: Path) -> None:
    async def none_left() -> bool:
        return processes_of(tmp_path) == []

    async with running_up(tmp_path) as running:
        await running.says("Ready")
        assert len(processes_of(tmp_path)) == 8  # three servers, four roles, the console
        running.process.kill()
        await running.ended()
    await eventually(none_left, "servers and roles are gone")


async def test_a_role_that_dies_again_and_again_ends_up_with_its_last_words(tmp_path: Path) -> None:
    async with running_up(tmp_path, "mortal") as running:
        assert await running.ended() == 1
        assert "exited with code 1; it is started again (1 of 2)" in running.output
        assert "died 3 times within 60 s" in running.output
        assert "the consumer is out of luck" in running.output
    assert processes_of(tmp_path) == []


def process_of(folder: Path, role: str) -> psutil.Process:
    """The one process whose log is the role's or server's."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.ppid() and any(
                Path(file.path) == folder / "data" / "logs" / f"{role}.log" for file in process.open_files()
            ):
                return process
    raise AssertionError(f"{role} does not run")


async def test_a_role_and_a_server_that_are_killed_are_started_again_and_that_is_said(tmp_path: Path) -> None:
    async with running_up(tmp_path) as running:
        await running.says("Ready")
        for name in ("consumer-1", "watcher-1", "api-1", "mongod", "redis"):
            process_of(tmp_path, name).kill()
            await running.says(f"{name} was ended by SIGKILL; it is started again (1 of 2)")
            await running.says(f"{name} runs again")
        assert len(processes_of(tmp_path)) == 8
        running.process.send_signal(signal.SIGTERM)
        assert await running.ended() == 0
    assert processes_of(tmp_path) == []


async def test_an_embedded_broker_that_dies_ends_up_since_it_has_forgotten_everything(tmp_path: Path) -> None:
    async with running_up(tmp_path) as running:
        await running.says("Ready")
        process_of(tmp_path, "embedded-broker").kill()
        assert await running.ended() == 1
        assert "it has forgotten every record" in running.output
    assert processes_of(tmp_path) == []


FILE = """
[mongodb]
uri = "mongodb://elsewhere"
max_pool_size = 7
[kafka]
topic = "mine"
security_protocol = "SASL_SSL"
sasl_username = "u"
sasl_password = "p"
[redis]
url = "redis://elsewhere"
prefix = "pf"
[limits]
requests_per_second = 5.5
[watcher]
group = "w"
[consumer]
max_batch = 99
[service]
port = 1
log_level = "warning"
"""


async def test_roles_have_the_settings_of_up_but_those_that_it_owns(tmp_path: Path) -> None:
    (tmp_path / "neverstale.toml").write_text(FILE)
    variables = {"NEVERSTALE_API__LEASE_MS": "2345", "NEVERSTALE_KAFKA__GROUP_INSTANCE_ID": "me"}
    async with running_up(tmp_path, f"says {tmp_path}", **variables) as running:
        await running.says("Ready")

        async def said() -> bool:
            return all((tmp_path / f"{role}.json").exists() for role in ("watcher", "consumer", "api"))

        await eventually(said, "the roles have said what they were given", 30)
        for role in ("watcher", "consumer", "api"):
            given = json.loads((tmp_path / f"{role}.json").read_text())
            assert (given["mongodb"]["max_pool_size"], given["redis"]["prefix"]) == (7, "pf")
            assert (given["kafka"]["topic"], given["kafka"]["security_protocol"]) == ("mine", "PLAINTEXT")
            assert (given["watcher"]["group"], given["consumer"]["max_batch"]) == ("w", 99)
            assert (given["limits"]["requests_per_second"], given["api"]["lease_ms"]) == (5.5, 2345)
            assert given["kafka"]["sasl_username"] is given["kafka"]["sasl_password"] is None
            assert (given["kafka"]["group_instance_id"] or "").startswith("consumer-") is (role == "consumer")
            assert given["service"]["log_level"] == "warning"
            assert given["service"]["port"] != 1
        file = tmp_path / "neverstale.toml"
        for origin in (f"{file}: mongodb.uri", f"{file}: redis.url", "NEVERSTALE_KAFKA__GROUP_INSTANCE_ID"):
            assert f"{origin} is not used: " in running.output


async def test_a_second_signal_forces_the_stop(tmp_path: Path) -> None:
    async with running_up(tmp_path, "stubborn") as running:
        await running.says("Ready")
        running.process.send_signal(signal.SIGINT)
        await running.says("api-1 stopping")
        begun = time.monotonic()
        running.process.send_signal(signal.SIGINT)
        assert await running.ended() == 0
        assert time.monotonic() - begun < 5  # the roles' grace is 15 s
    assert processes_of(tmp_path) == []


async def said_by_up(options: UpOptions) -> tuple[int, str]:
    output = StringIO()
    return await up(options, Console(file=output)), output.getvalue()


async def test_a_port_in_use_is_a_problem_found(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(CATALOG)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        code, said = await said_by_up(UpOptions(catalog=catalog, broker="embedded", redis_port=port))
    assert code == 1
    assert f"port {port} is in use; stop what listens there, or choose another with --redis-port" in said


async def test_a_missing_catalog_is_wrong_use(tmp_path: Path) -> None:
    code, said = await said_by_up(UpOptions(catalog=tmp_path / "catalog.toml"))
    assert code == 2
    assert "no such catalog file" in said


async def test_a_port_for_the_embedded_broker_is_wrong_use(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(CATALOG)
    code, said = await said_by_up(UpOptions(catalog=catalog, broker="embedded", kafka_port=9092))
    assert code == 2
    assert "--kafka-port: the embedded broker chooses its own port; drop it, or use --broker kafka" in said
