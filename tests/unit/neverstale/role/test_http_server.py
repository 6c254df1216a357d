"""A role's HTTP server rests until it is asked to end, and then ends at once."""

import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest
import uvicorn

from neverstale.role import http_server
from neverstale.role.http_server import RoleServer


async def nothing(scope: Any, receive: Any, send: Any) -> None: ...


def server() -> RoleServer:
    made = RoleServer(uvicorn.Config(nothing, log_config=None, lifespan="off"))
    made.config.load()
    return made


async def test_it_ends_at_once_however_rarely_it_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "TICK_SECONDS", 3600)
    one = server()
    assert not one.should_exit
    running = asyncio.create_task(one.main_loop())
    await asyncio.sleep(0)
    one.should_exit = True
    async with asyncio.timeout(10):
        await running


async def test_a_signal_wakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "TICK_SECONDS", 3600)
    one = server()
    before = signal.signal(signal.SIGUSR1, one.handle_exit)
    try:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        started = time.monotonic()
        async with asyncio.timeout(20):  # which would wake it
            await one.main_loop()
        assert time.monotonic() - started < 10
    finally:
        signal.signal(signal.SIGUSR1, before)


async def test_each_time_that_it_wakes_it_tells_the_date_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "TICK_SECONDS", 0.001)
    one = server()
    tick, dates = one.on_tick, list[bytes]()

    async def noting(counter: int) -> bool:
        one.server_state.default_headers = []
        ends = await tick(counter)
        dates.append(one.server_state.default_headers[0][0])
        one.should_exit = len(dates) > 2
        return ends

    monkeypatch.setattr(one, "on_tick", noting)
    async with asyncio.timeout(10):
        await one.main_loop()
    assert dates == [b"date"] * 4


def test_it_can_be_told_not_to_end_after_all() -> None:
    one = server()
    one.should_exit = True
    one.should_exit = False
    assert not one.should_exit
