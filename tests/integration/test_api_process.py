"""`neverstale run api` as a process: one or several workers, stopped and killed."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import Signals

import httpx
import psutil
import pytest

from ops.stack.errors import StackError
from ops.stack.ports import free_port, listens
from ops.stack.role import RunningRole, start_role
from tests.api_process import api_process, client, options
from tests.api_world import World, catalog_of, settings_of
from tests.waiting import eventually

WORKERS = {"NEVERSTALE_API__WORKERS": "2"}


@pytest.fixture
async def world(mongo_uri: str, redis_url: str, database: str, redis_prefix: str) -> AsyncIterator[World]:
    async with World.of(settings_of(mongo_uri, redis_url, redis_prefix), catalog_of(database)) as world:
        await world.write("things", {"_id": "a"})
        yield world


@pytest.mark.parametrize("variables", [{}, WORKERS], ids=["one worker", "two workers"])
async def test_sigterm_ends_it_orderly(world: World, tmp_path: Path, variables: dict[str, str]) -> None:
    async with api_process(world, tmp_path, **variables) as api, client(api) as http:
        assert (await http.get("/v1/things/a")).json() == {"_id": "a"}
        api.signal(Signals.SIGTERM)
        async with asyncio.timeout(20):
            assert await api.wait() == 0
    assert not await listens(api.ports[0])


async def test_requests_under_way_are_answered_before_it_ends(world: World, tmp_path: Path) -> None:
    slow = {"failCommands": ["find"], "blockConnection": True, "blockTimeMS": 1000}
    slow["namespace"] = f"{world.catalog.database}.things"
    async with api_process(world, tmp_path) as api, client(api) as http:
        await world.mongo.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": slow})
        reading = asyncio.create_task(http.get("/v1/things/a"))
        await eventually(lambda: _is_read(world), "the read has reached MongoDB")
        api.signal(Signals.SIGTERM)
        assert (await reading).json() == {"_id": "a"}
        assert await api.wait() == 0


@pytest.mark.parametrize("variables", [{}, WORKERS], ids=["one worker", "two workers"])
async def test_before_it_stops_it_says_so_and_goes_on_serving(
    world: World, tmp_path: Path, variables: dict[str, str]
) -> None:
    notice = {"NEVERSTALE_API__NOTICE_MS": "60000", "NEVERSTALE_SERVICE__DRAIN_SECONDS": "60"}
    async with api_process(world, tmp_path, **variables, **notice) as api, client(api) as http:
        before = await http.get("/v1/things/a")
        assert "connection" not in before.headers
        api.signal(Signals.SIGTERM)
        await eventually(lambda: _is_draining(http), "/readyz says 503", seconds=20)
        for path in ("/v1/things/a", "/v1/things?keys=a"):
            # Not at once: of two workers the other one may be told a moment later.
            await eventually(partial(_says_close, http, path), f"{path} says close", seconds=20)


async def test_a_connection_that_is_open_when_listening_ends_is_still_answered(world: World, tmp_path: Path) -> None:
    async with api_process(world, tmp_path, NEVERSTALE_API__NOTICE_MS="0") as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.ports[0])
        api.signal(Signals.SIGTERM)

        async def deaf() -> bool:
            return not await listens(api.ports[0])

        await eventually(deaf, "it listens no more")
        writer.write(b"GET /v1/things/a HTTP/1.1\r\nhost: here\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer
        writer.close()


async def _says_close(http: httpx.AsyncClient, path: str) -> bool:
    answer = await http.get(path)
    assert answer.status_code == 200
    return bool(answer.headers.get("connection") == "close")


async def _is_draining(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).status_code == 503


async def _is_read(world: World) -> bool:
    entry = await world.entry("things", "a")
    return entry is not None


async def test_a_worker_that_dies_is_replaced(world: World, tmp_path: Path) -> None:
    async with api_process(world, tmp_path, **WORKERS) as api, client(api) as http:
        workers = _workers(api)
        assert len(workers) == 2
        workers[0].kill()
        workers[0].wait(5)

        async def replaced() -> bool:
            return len(_workers(api)) == 2 and workers[0].pid not in [worker.pid for worker in _workers(api)]

        await eventually(replaced, "there are two workers again", seconds=20)
        await eventually(lambda: _answers(http), "the API answers", seconds=20)


async def test_workers_end_with_their_supervisor(world: World, tmp_path: Path) -> None:
    async with api_process(world, tmp_path, **WORKERS) as api:
        workers = _workers(api)
        psutil.Process(api.pid).kill()

        async def gone() -> bool:
            return not any(worker.is_running() and worker.status() != "zombie" for worker in workers)

        await eventually(gone, "no worker is left", seconds=20)
        assert not await listens(api.ports[0])


async def test_a_port_in_use_is_a_sentence_and_exit_2(world: World, tmp_path: Path) -> None:
    port = free_port()
    for variables in ({}, WORKERS):
        with socket.create_server(("127.0.0.1", port)):
            wanted = options(world, tmp_path, variables)
            with pytest.raises(StackError, match=r"exited with code 2.*NEVERSTALE_API__PORT") as error:
                await start_role(replace(wanted, port=port))
            assert "Traceback" not in str(error.value)


def _workers(api: RunningRole) -> list[psutil.Process]:
    """The children that serve; multiprocessing has one more, which watches over resources."""
    children = psutil.Process(api.pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/v1/things/a")).status_code == 200
    except httpx.TransportError:
        return False
