"""`deploy/nginx.conf` before two APIs. Without nginx on PATH there is nothing to test; CI installs it."""

import asyncio
import contextlib
import re
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest

from neverstale.ops.stack.ports import LOOPBACK, free_port, listens
from neverstale.ops.stack.process import Launch, RunningProcess
from neverstale.ops.stack.role import start_role
from neverstale.redis.announcements import Announcer
from neverstale.redis.corrections import Corrections
from tests.support.api_process import options
from tests.support.events import listening
from tests.support.project import ROOT
from tests.worlds.api import World

CONF = ROOT / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx")
CLIENTS = 4

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not on PATH"),
    pytest.mark.usefixtures("forked_roles"),
]


@pytest.fixture
async def world(world: World) -> World:
    await world.write("things", {"_id": "a"})
    return world


@contextlib.asynccontextmanager
async def nginx(folder: Path, *apis: int, **changes: str) -> AsyncIterator[str]:
    """nginx with the shipped file, but for its addresses and for `changes` of its directives; its URL."""
    port = free_port()
    text = CONF.read_text().replace(f"listen {LOOPBACK}:8080", f"listen {LOOPBACK}:{port}")
    for place, api in enumerate(apis):
        text = text.replace(f"server {LOOPBACK}:{8000 + place} ", f"server {LOOPBACK}:{api} ")
    if len(apis) == 1:
        text = re.sub(r".*server 127.0.0.1:8001 .*\n", "", text)
    for directive, value in changes.items():
        text, count = re.subn(rf"\b{directive} \S+;", f"{directive} {value};", text, count=1)
        assert count == 1
    conf = folder / "nginx.conf"
    conf.write_text(text)
    assert NGINX is not None
    launch = Launch(
        name="nginx",
        argv=[NGINX, "-p", str(folder), "-c", str(conf), "-g", "daemon off;"],
        log=folder / "nginx.log",
        ready=lambda: listens(port),
        ports=(port,),
    )
    running = RunningProcess(launch)
    try:
        await running.until_ready()
        yield f"http://{LOOPBACK}:{port}"
    finally:
        running.kill()


async def test_no_request_fails_while_the_apis_are_restarted_one_after_the_other(
    world: World, tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    wanted = [options(world, folder, {}) for folder in folders]
    apis = [await start_role(each) for each in wanted]
    try:
        async with nginx(tmp_path, *(api.ports[0] for api in apis)) as url:
            statuses: list[int] = []
            restarted = asyncio.Event()

            async def ask() -> None:
                async with httpx.AsyncClient(base_url=url, timeout=10) as http:
                    while not restarted.is_set():
                        statuses.append((await http.get("/v1/things/a")).status_code)

            async with asyncio.TaskGroup() as group:
                for _ in range(CLIENTS):
                    group.create_task(ask())
                for place, api in enumerate(apis):
                    api.signal(SIGTERM)
                    assert await api.wait() == 0
                    apis[place] = await start_role(replace(wanted[place], port=api.ports[0]))
                restarted.set()
            assert set(statuses) == {200}
            assert len(statuses) > 100
    finally:
        for api in apis:
            api.kill()


async def test_conditional_requests_and_changes_pass_and_nothing_is_kept_in_between(
    world: World, tmp_path: Path
) -> None:
    api = await start_role(options(world, tmp_path, {}))
    try:
        async with nginx(tmp_path, api.ports[0]) as url, httpx.AsyncClient(base_url=url) as http:
            first = await http.get("/v1/things/a")
            again = await http.get("/v1/things/a", headers={"If-None-Match": first.headers["etag"]})
            assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
            version = await world.write("things", {"_id": "a", "n": 2})
            await world.apply("things", ["a"], version)
            changed = await http.get("/v1/things/a", headers={"Cache-Control": "no-cache"})
            assert changed.json()["n"] == 2
            assert (await http.get("/v1/things/a")).json()["n"] == 2
            assert (await http.get("/metrics")).status_code == 404
    finally:
        api.kill()


async def test_a_stream_passes_state_by_state_and_outlives_the_patience_for_answers(
    world: World, tmp_path: Path
) -> None:
    world.cache = Corrections(world.redis, world.cache.names, Announcer())
    api = await start_role(options(world, tmp_path, {}))
    try:
        async with (
            nginx(tmp_path, api.ports[0], proxy_read_timeout="2s") as url,
            listening(int(url.rpartition(":")[2]), "/v1/things/a", "Accept-Encoding: gzip") as stream,
        ):
            await stream.until_state({"_id": "a"})
            begun = time.monotonic()
            await stream.until(lambda _: time.monotonic() - begun > 2.5 and not stream.ended, "comments keep it open")
            version = await world.write("things", {"_id": "a", "n": 5})
            await world.apply("things", ["a"], version)
            await stream.until_state({"n": 5})
    finally:
        api.kill()


async def test_a_client_that_sends_byte_by_byte_is_cut_off_and_others_are_served(
    world: World, tmp_path: Path
) -> None:
    api = await start_role(options(world, tmp_path, {}))
    try:
        async with nginx(tmp_path, api.ports[0], client_header_timeout="1s") as url:
            reader, writer = await asyncio.open_connection(LOOPBACK, int(url.rpartition(":")[2]))
            started = time.monotonic()
            writer.write(b"GET /v1/things/a HTTP/1.1\r\nHost: x\r\n")
            async with httpx.AsyncClient(base_url=url) as http:
                assert (await http.get("/v1/things/a")).status_code == 200
            async with asyncio.timeout(10):
                await reader.read()
            assert time.monotonic() - started >= 0.9
            writer.close()
    finally:
        api.kill()
