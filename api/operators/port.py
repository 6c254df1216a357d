"""The port of operators: all that the public one answers, and what `neverstale.api.operators.pages` keeps from it.

With several workers each of them listens on it, and whichever takes a connection speaks for itself.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from neverstale.api.health import ReadHealth
from neverstale.api.operators.pages import SERVICE
from neverstale.api.state import STATE, State
from neverstale.errors import Misconfigured
from neverstale.role import telemetry
from neverstale.role.http_server import RoleServer
from neverstale.role.service import serve_until_asked, service_url
from neverstale.role.supervised import Supervised
from neverstale.settings import Settings

log = telemetry.logger(__name__)

STOP_SECONDS: Final = 2.0


def listen_inside(settings: Settings) -> tuple[socket.socket, Settings]:
    """Take the port, and name the one that was taken in the settings."""
    host, port = settings.service.host, settings.service.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        remedy = "free it, or set NEVERSTALE_SERVICE__HOST and NEVERSTALE_SERVICE__PORT"
        raise Misconfigured(f"service.port {port}", f"{host} gives no such port ({error.strerror})", remedy) from None
    port = listener.getsockname()[1]
    log.info("serving", role="api", service_url=service_url(host, port))
    return listener, settings.model_copy(update={"service": settings.service.model_copy(update={"port": port})})


@contextlib.asynccontextmanager
async def serving_inside(
    app: ASGIApp, state: State, listener: socket.socket | None, health: ReadHealth
) -> AsyncIterator[None]:
    """Answer there until the block ends. `None`: there is no such port."""

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {STATE: state, SERVICE: True}}, receive, send)

    async def serve() -> None:
        assert listener is not None
        config = uvicorn.Config(
            inside,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        server = RoleServer(config)
        task = asyncio.create_task(serve_until_asked(server, listener.dup()), name="service-http")
        try:
            await asyncio.shield(task)
        finally:
            server.should_exit = True
            await asyncio.wait({task}, timeout=STOP_SECONDS)

    async with Supervised(health) as beside:
        if listener is not None:
            beside.keep("service-http", serve)
        yield
