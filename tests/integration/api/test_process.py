"""`neverstale run api` as a process: one or several workers, stopped and killed."""

import asyncio
import socket
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from signal import Signals
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from neverstale.api.hits.fast_path import COUNT_SECONDS
from neverstale.ops.stack.errors import StackError
from neverstale.ops.stack.ports import free_port, listens
from neverstale.ops.stack.role import RunningRole, start_role
from neverstale.redis.most_read import Popularity
from tests.support.api_process import api_process, client, options
from tests.support.waiting import eventually, is_alive, runs
from tests.worlds.api import World

WORKERS = {"NEVERSTALE_API__WORKERS": "2"}


@pytest.fixture
async def world(world: World) -> World:
    await world.write("things", {"_id": "a"})
    return world


@pytest.mark.parametrize("variables", [{}, WORKERS], ids=["one worker", "two workers"])
async def test_sigterm_ends_it_orderly(world: World, tmp_path: Path, variables: dict[str, str]) -> None:
    async with api_process(world, tmp_path, **variables) as api, client(api) as http:
        assert (await http.get("/v1/things/a")).json() == {"_id": "a"}
        api.signal(Signals.SIGTERM)
        async with asyncio.timeout(20):
            assert await api.wait() == 0
    assert not await listens(api.ports[0])


@pytest.mark.usefixtures("forked_roles")
@pytest.mark.parametrize("variables", [{}, WORKERS], ids=["one worker", "two workers"])
async def test_what_operators_see_is_on_a_port_of_its_own(
    world: World, tmp_path: Path, variables: dict[str, str]
) -> None:
    port = free_port()
    closed = {"NEVERSTALE_API__PUBLIC_PAGES": "none", "NEVERSTALE_SERVICE__PORT": str(port)}
    async with api_process(world, tmp_path, **closed, **variables) as api, client(api) as http:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as inside:
            for path in ("/metrics", "/docs", "/openapi.json"):
                assert ((await http.get(path)).status_code, (await inside.get(path)).status_code) == (404, 200)
            assert (await http.get("/readyz")).json() == {"ready": True}
            assert (await inside.get("/readyz")).json()["parts"]["mongodb"] == "ok"
            assert (
                (await inside.get("/v1/things/a")).json() == (await http.get("/v1/things/a")).json() == {"_id": "a"}
            )
        api.signal(Signals.SIGTERM)
        async with asyncio.timeout(20):
            assert await api.wait() == 0
    assert not await listens(port)


@pytest.mark.usefixtures("forked_roles")
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


@pytest.mark.usefixtures("forked_roles")
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


@pytest.mark.usefixtures("forked_roles")
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


@pytest.mark.usefixtures("forked_roles")
async def test_a_worker_that_dies_is_replaced_and_what_it_has_counted_stays_in_the_sums(
    world: World, tmp_path: Path
) -> None:
    async with api_process(world, tmp_path, **WORKERS) as api, client(api) as http:
        workers = _workers(api)
        assert len(workers) == 2
        for _ in range(40):
            async with client(api) as another:  # a connection of its own: each worker gets some
                await another.get("/v1/things/a", headers={"cache-control": "no-cache"})
        await eventually(partial(_counts, api, 40), "all that both have answered is counted", seconds=20)
        workers[0].kill()
        workers[0].wait(5)

        async def replaced() -> bool:
            return len(_workers(api)) == 2 and workers[0].pid not in [worker.pid for worker in _workers(api)]

        await eventually(replaced, "there are two workers again", seconds=20)
        await eventually(lambda: _answers(http), "the API answers", seconds=20)
        assert await _counts(api, 40)


async def test_workers_that_are_slow_to_start_are_waited_for(world: World, tmp_path: Path) -> None:
    """As on a busy machine: longer than a worker that runs may be silent."""
    slow = 'import sys, time\n"--multiprocessing-fork" in sys.orig_argv and time.sleep(5)\n'
    (tmp_path / "sitecustomize.py").write_text(slow)
    async with api_process(world, tmp_path, **WORKERS, PYTHONPATH=str(tmp_path)) as api, client(api) as http:
        before = _workers(api)
        api.signal(Signals.SIGHUP)

        async def replaced() -> bool:
            return not any(map(is_alive, before)) and len(_workers(api)) == 2

        await eventually(replaced, "the workers are replaced, one after the other", seconds=60)
        assert await _answers(http)


ASKED = {"NEVERSTALE_SERVICE__RELOAD_CATALOG": "false"}


@pytest.mark.parametrize("variables", [{}, WORKERS | ASKED], ids=["by itself", "asked, two workers"])
async def test_another_catalog_is_taken_up_and_nobody_is_refused_meanwhile(
    world: World, tmp_path: Path, variables: dict[str, str]
) -> None:
    await world.write("things", {"_id": "b", "name": "n", "secret": "s"})
    before, after = {"_id": "b", "name": "n", "secret": "s"}, {"_id": "b", "name": "n"}
    file = tmp_path / "catalog.toml"
    async with api_process(world, tmp_path, **variables) as api, caller(api) as http:
        good, pid = file.read_text(), api.pid
        file.write_text(good.replace("key_type", "key_typ", 1))
        if ASKED.items() <= variables.items():
            api.signal(Signals.SIGHUP)
        await eventually(lambda: _tells_of_the_catalog(http), "it says that the file is refused", seconds=20)
        assert (await http.get("/v1/things/b")).json() == before
        assert "neverstale_catalog_refused 1.0" in (await http.get("/metrics")).text

        file.write_text(good.replace('key_type = "string"', 'key_type = "string"\nfields = { name = "string" }', 1))
        answers: list[dict[str, str]] = []

        async def taken_up() -> bool:
            found = await http.get("/v1/things/b")
            assert found.status_code == 200
            answers.append(found.json())
            return answers[-20:] == [after] * 20

        if ASKED.items() <= variables.items():
            api.signal(Signals.SIGHUP)
        await eventually(taken_up, "the field is gone", seconds=60)
        assert all(answer in (before, after) for answer in answers)
        assert (await http.get("/readyz")).json()["parts"].get("catalog") is None
        assert api.pid == pid and is_alive(psutil.Process(pid))
        api.signal(Signals.SIGTERM)
        assert await api.wait() == 0


def caller(api: RunningRole) -> httpx.AsyncClient:
    """Who connects for each request, and does not try again."""
    return httpx.AsyncClient(base_url=api.url, timeout=30, limits=httpx.Limits(max_keepalive_connections=0))


async def _tells_of_the_catalog(http: httpx.AsyncClient) -> bool:
    found = (await http.get("/readyz")).json()
    return bool(found["ready"] and "key_typ" in found["parts"].get("catalog", ""))


@pytest.mark.usefixtures("forked_roles")
async def test_workers_end_with_their_supervisor(world: World, tmp_path: Path) -> None:
    async with api_process(world, tmp_path, **WORKERS) as api:
        workers = _workers(api)
        psutil.Process(api.pid).kill()

        async def gone() -> bool:
            return not any(map(is_alive, workers))

        await eventually(gone, "no worker is left", seconds=20)
        assert not await listens(api.ports[0])


@pytest.mark.usefixtures("forked_roles")
async def test_a_worker_opens_no_more_connections_than_operations_md_says(world: World, tmp_path: Path) -> None:
    limits = {"NEVERSTALE_REDIS__MAX_CONNECTIONS": "3", "NEVERSTALE_MONGODB__MAX_POOL_SIZE": "2"}
    limits["NEVERSTALE_API__L1_BYTES"] = "0"
    await world.write("things", *({"_id": str(number)} for number in range(200)))
    uris = {"redis": world.settings.redis.url, "mongodb": world.settings.mongodb.uri}
    ports = {urlsplit(uri.get_secret_value()).port: server for server, uri in uris.items()}
    most = Counter[str]()
    async with api_process(world, tmp_path, **limits) as api, client(api) as http:
        process = psutil.Process(api.pid)

        def count() -> None:
            open_now = [one for one in process.net_connections("tcp") if one.raddr and one.status == "ESTABLISHED"]
            for server, number in Counter(ports.get(one.raddr.port, "") for one in open_now).items():
                most[server] = max(most[server], number)

        for _ in range(2):
            asking = asyncio.gather(*(http.get(f"/v1/things/{number}") for number in range(200)))
            while not asking.done():
                count()
                await asyncio.sleep(0.02)
            assert {answer.status_code for answer in await asking} <= {200, 503}
    assert 2 <= most["redis"] <= 3 + 3, "with nothing in memory there is no channel"
    assert 2 <= most["mongodb"] <= 2 + 2


@pytest.mark.usefixtures("forked_roles")
async def test_a_crash_loses_no_reads_but_the_last_ones(world: World, tmp_path: Path) -> None:
    often = {"NEVERSTALE_API__READS_FLUSH_MS": "500"}
    told = Popularity(world.cache, 3600)

    async def reads() -> float:
        found = await told.of("things", "s:a")
        return found.reads if found is not None else 0.0

    async with api_process(world, tmp_path, **often) as api, client(api) as http:
        for _ in range(100):
            assert (await http.get("/v1/things/a")).status_code == 200
        # The period, what hits in memory wait for, and a second for Redis and a busy machine.
        await asyncio.sleep(0.5 + COUNT_SECONDS + 1)
        for _ in range(10):
            await http.get("/v1/things/a")
        psutil.Process(api.pid).kill()
        await api.wait()
    assert 100 <= round(await reads()) <= 110


async def test_a_port_in_use_is_a_sentence_and_exit_2(world: World, tmp_path: Path) -> None:
    port = free_port()
    for variables in ({}, WORKERS):
        with socket.create_server(("127.0.0.1", port)):
            wanted = options(world, tmp_path, variables)
            with pytest.raises(StackError, match=r"exited with code 2.*NEVERSTALE_API__PORT") as error:
                await start_role(replace(wanted, port=port))
            assert "Traceback" not in str(error.value)


async def _counts(api: RunningRole, requests: int) -> bool:
    """Whether each worker that may be asked says that at least so many were answered."""
    sample = 'neverstale_requests_total{route="/v1/things/{key}",status="200"}'
    for _ in range(6):
        async with client(api) as http:
            lines = (await http.get("/metrics")).text.splitlines()
        found = [float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample)]
        if not found or found[0] < requests:
            return False
    return True


def _workers(api: RunningRole) -> list[psutil.Process]:
    """The children that serve; multiprocessing has one more, which watches over resources."""
    children = psutil.Process(api.pid).children()
    return [child for child in children if runs(child, "spawn_main")]


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/v1/things/a")).status_code == 200
    except httpx.TransportError:
        return False
