"""Published keys are fetched, kept while they cannot be fetched, and given up in the end; files are read again."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from neverstale.api.callers.fresh_keys import FreshKeys, check_files
from neverstale.api.callers.identify import Callers
from neverstale.errors import Misconfigured
from neverstale.role.tasks import Tasks
from neverstale.settings import CallerSettings
from tests.support.tokens import AUDIENCE, ISSUER, Provider, caller_settings

PROVIDER = Provider()


class Publisher:
    """What the identity provider answers."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, PROVIDER.text("ec"), dict[str, str]()
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    held = Publisher()
    thread = threading.Thread(target=held.server.serve_forever, args=(0.01,))
    thread.start()
    yield held
    held.server.shutdown()
    thread.join()
    held.server.server_close()


class World:
    def __init__(self, publisher: Publisher) -> None:
        self.now = 0.0
        settings = CallerSettings.model_validate(
            {"jwks_url": publisher.url, "issuer": ISSUER, "audience": AUDIENCE, "jwks_kept_seconds": 100}
        )
        self.callers = Callers(settings)
        self.fresh = FreshKeys(settings, self.callers, Tasks(), lambda: self.now)


async def test_published_keys_are_fetched_each_period(publisher: Publisher) -> None:
    world = World(publisher)
    for second, asked in ((0, 1), (299, 1), (300, 2), (301, 2)):
        world.now = second
        await world.fresh._look()
        assert len(publisher.asked) == asked
    assert world.callers.verifies_tokens


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (200, b"{"), (200, b'{"keys": []}'), (404, PROVIDER.text("ec")), (200, b"x" * 2_000_000)],
)
async def test_keys_that_cannot_be_fetched_again_hold_until_their_time_is_over(
    publisher: Publisher, status: int, body: bytes
) -> None:
    world = World(publisher)
    await world.fresh.fetch()
    publisher.status, publisher.body = status, body
    world.now = 99
    await world.fresh.fetch()
    assert world.callers.verifies_tokens
    world.now = 101
    await world.fresh.fetch()
    assert not world.callers.verifies_tokens
    publisher.status, publisher.body = 200, PROVIDER.text("ec")
    await world.fresh.fetch()
    assert world.callers.verifies_tokens


SLOW: Final[dict[str, tuple[bytes, bytes]]] = {
    "says nothing": (b"", b""),
    "a head letter by letter": (b"HTTP/1.1 200 OK\r\n", b"x"),
    "a body letter by letter": (b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b" "),
    "a body without end": (b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "chunks letter by letter": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "less than it promised": (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", b""),
}


@pytest.mark.parametrize(("begin", "again"), SLOW.values(), ids=SLOW)
async def test_a_provider_that_drips_holds_nobody(begin: bytes, again: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dripping = threading.Thread(target=drip, args=(server, begin, again), daemon=True)
        dripping.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        settings = CallerSettings.model_validate(
            {"jwks_url": url, "issuer": ISSUER, "audience": AUDIENCE, "jwks_timeout_ms": 300}
        )
        callers = Callers(settings)
        async with asyncio.timeout(20):
            await FreshKeys(settings, callers, Tasks()).fetch()
        assert not callers.verifies_tokens
        await asyncio.to_thread(dripping.join, 20)
        assert not dripping.is_alive(), "its connection was ended"


def drip(server: socket.socket, begin: bytes, again: bytes) -> None:
    connection, _ = server.accept()
    with connection, contextlib.suppress(OSError):
        connection.recv(65536)
        connection.sendall(begin)
        while again:
            connection.sendall(again)
            time.sleep(0.02)  # it is what is tested
        while connection.recv(1):
            pass


async def test_keys_elsewhere_are_not_fetched(publisher: Publisher) -> None:
    world = World(publisher)
    publisher.status, publisher.headers = 302, {"location": publisher.url + "?elsewhere"}
    await world.fresh.fetch()
    assert publisher.asked == ["/jwks.json"]
    assert not world.callers.verifies_tokens


async def test_a_provider_that_is_away_ends_nothing() -> None:
    settings = CallerSettings.model_validate(
        {"jwks_url": "http://127.0.0.1:9/", "issuer": ISSUER, "audience": AUDIENCE, "jwks_timeout_ms": 200}
    )
    callers = Callers(settings)
    await FreshKeys(settings, callers, Tasks()).fetch()
    assert not callers.verifies_tokens


async def test_an_api_does_not_start_with_keys_that_cannot_be_read(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(PROVIDER.text("ec"))
    bad.write_bytes(b"{")
    check_files(CallerSettings())
    check_files(caller_settings(jwks_file=good))
    for fields in ({"jwks_file": bad}, {"jwks_file": tmp_path / "none"}, {"jwks_file": good, "keys_file": bad}):
        with pytest.raises(Misconfigured):
            check_files(caller_settings(**fields))


@pytest.mark.parametrize(
    "url",
    [
        "http://login.test/jwks.json",
        "ftp://login.test/",
        "https://",
        "https://user@login.test/",
        "file:///etc/passwd",
    ],
)
def test_keys_are_fetched_over_https_only(url: str) -> None:
    with pytest.raises(ValueError):
        CallerSettings.model_validate({"jwks_url": url, "issuer": ISSUER, "audience": AUDIENCE})


@pytest.mark.parametrize(
    "fields",
    [
        {"jwks_url": "https://login.test/"},
        {"jwks_url": "https://login.test/", "issuer": ISSUER},
        {"issuer": ISSUER},
        {"jwks_url": "https://l.test/", "jwks_file": "x", "issuer": ISSUER, "audience": AUDIENCE},
        {"algorithms": "HS256"},
        {"algorithms": "none"},
        {"algorithms": ""},
        {"leeway_seconds": 3600},
    ],
)
def test_settings_that_would_believe_too_much_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        CallerSettings.model_validate(fields)
