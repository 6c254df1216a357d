"""Stopping without breaking a request.

A client may send a request on a kept connection at the very moment in which we close it, and connect at the very
moment in which we stop listening; the kernel answers both with a reset. So the end is announced first: `/readyz` says
503, and every answer says `Connection: close`, while connections are still accepted. Only then listening ends, with
those connections taken over that the kernel had accepted by then; and what comes in on them is still answered.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterable
from typing import Final

import uvicorn
from uvicorn.supervisors.multiprocess import Process

from neverstale.api.server.protocol import HotProtocol, Serving
from neverstale.api.state import STATE, State
from neverstale.role.http_server import RoleServer

LAST_SECONDS: Final = 0.5
"""How long a connection may take to send its last request after listening has ended."""
LOOK_SECONDS: Final = 0.01
START_SECONDS: Final = 60.0
"""Until then a worker may be busy with what it imports, and answers nobody: on a busy machine for longer than one
that runs may be silent. Killed for that, and the next one too, none would ever serve."""


class DrainingConfig(uvicorn.Config):
    """Uvicorn's, and how long notice is given before the end."""

    notice_seconds = 0.0


class DrainingServer(RoleServer):
    """A role's server, which gives notice before it stops."""

    def __init__(self, config: DrainingConfig, *, takes_signals: bool = False) -> None:
        super().__init__(config, takes_signals=takes_signals)
        self.server_state = self._serving = Serving()
        self.notice_seconds = config.notice_seconds
        """How long notice is given, unless the process listens on."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._give_notice()
        await self._wait(self.notice_seconds, even_if_idle=True)
        await self._stop_listening(sockets or [])
        await self._wait(LAST_SECONDS)
        await super().shutdown(sockets)

    def _give_notice(self) -> None:
        self._serving.draining = True
        state: State | None = self.lifespan.state.get(STATE)
        if state is not None:
            state.health.drain()
            state.live.drain()
        for connection in list(self.server_state.connections):
            if isinstance(connection, HotProtocol):
                connection.give_notice()

    async def _wait(self, seconds: float, *, even_if_idle: bool = False) -> None:
        """Until all connections have had their last answer, but no longer than so many seconds."""
        deadline = time.monotonic() + seconds
        while (even_if_idle or self.server_state.connections) and not self.force_exit:
            if time.monotonic() >= deadline:
                break
            await asyncio.sleep(LOOK_SECONDS)

    async def _stop_listening(self, sockets: Iterable[socket.socket]) -> None:
        # As long as one of its descriptors is open, a socket goes on listening.
        spares = [listener.dup() for listener in sockets if listener.fileno() >= 0]
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)  # the loop lets go of them in its next turn, and accepts no more
        for listener in sockets:
            listener.close()
        accepted = [connection for spare in spares for connection in _accept_all(spare)]
        loop = asyncio.get_running_loop()
        for connection in accepted:
            with contextlib.suppress(OSError):
                await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> HotProtocol:
        return HotProtocol(self.config, self.server_state, self.lifespan.state)


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    """Takes over what waits to be accepted, and listens no more."""
    accepted = []
    with listener:
        listener.setblocking(False)
        while True:
            try:
                accepted.append(listener.accept()[0])
            except BlockingIOError:
                return accepted
            except OSError:
                continue  # that client is gone again


class DrainingProcess(Process):
    """A worker of several with such a server. It is not asked whether it hangs before it can have started."""

    config: DrainingConfig

    def start(self) -> None:
        self._started_by = time.monotonic() + START_SECONDS
        super().start()

    def is_alive(self, timeout: float = 5) -> bool:
        if time.monotonic() < self._started_by:
            return self.process.is_alive()
        return super().is_alive(timeout)

    def wait_until_ready(self, timeout: float, should_exit: threading.Event | None = None) -> bool:
        return super().wait_until_ready(max(timeout, START_SECONDS), should_exit)

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = DrainingServer(self.config, takes_signals=True)
        return self._server
