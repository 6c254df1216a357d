"""`neverstale run api`: one process, or uvicorn's supervisor over several."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
from functools import partial

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess, multiprocess

from neverstale.api.app import create_app
from neverstale.api.server.draining import DrainingConfig, DrainingProcess, DrainingServer
from neverstale.api.server.open_files import with_room
from neverstale.api.server.protocol import HotProtocol
from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.role import telemetry
from neverstale.role.service import Life, run_role, serve_until_asked, service_url
from neverstale.role.tasks import start
from neverstale.settings import Settings

log = telemetry.logger(__name__)

# FastAPI asks of every type whether it is one of the first Pydantic, and would load all of that to find out: 8 MB.
sys.modules.setdefault("pydantic.v1", None)  # type: ignore[arg-type]

BACKLOG = 2048
UNSENT_BYTES = 64 << 10
"""In the kernel, of each connection."""
COLLECT_AFTER = 100_000
"""Objects. Python's own threshold, 700, costs requests at the 99th percentile tens of milliseconds."""
FORCED = 1


def run(settings: Settings, catalog: Catalog) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code (see `neverstale.role.service.run_role`)."""
    if settings.api.workers == 1:
        return run_role("api", settings, partial(_serve, settings, catalog), serve_http=False)
    telemetry.configure_logging(settings.service)
    try:
        listener, settings = listen(settings)
    except Misconfigured as error:
        log.error("stopped", role="api", reason=str(error))
        return 2
    config = _config(partial(_worker_app, settings, catalog), settings)
    supervisor = Supervisor(config, listener, settings.service.drain_seconds)
    supervisor.run()
    if not supervisor.asked:
        log.error("failed", role="api", reason="a worker did not start")
        return 1
    log.info("stopped", role="api", reason="asked")
    return 0


def listen(settings: Settings) -> tuple[socket.socket, Settings]:
    """Take the port, and name the one that was taken in the settings."""
    host, port = settings.api.host, settings.api.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        remedy = "free it, or set NEVERSTALE_API__HOST and NEVERSTALE_API__PORT"
        raise Misconfigured(f"api.port {port}", f"{host} gives no such port ({error.strerror})", remedy) from None
    listener.set_inheritable(True)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Connections inherit it: what a slow client does not take stays here, where it is counted.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    port = listener.getsockname()[1]
    log.info("serving", role="api", url=service_url(host, port), workers=settings.api.workers)
    return listener, settings.model_copy(update={"api": settings.api.model_copy(update={"port": port})})


async def _serve(settings: Settings, catalog: Catalog, life: Life) -> None:
    listener, settings = listen(settings)
    app = create_app(with_room(settings), catalog)
    tame_collector()
    server = DrainingServer(_config(app, settings))
    # The role's own signals and shutdown rule; uvicorn must not take them over.
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
    async with asyncio.TaskGroup() as group:
        start(group, serve_until_asked(server, listener), "api-http")
        await life.stop.wait()
        server.should_exit = True


def _worker_app(settings: Settings, catalog: Catalog) -> FastAPI:
    """Called in a worker, with the supervisor's own settings and catalog."""
    telemetry.configure_logging(settings.service)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    app = create_app(with_room(settings), catalog)
    tame_collector()
    return app


def _end_with_parent() -> None:
    """A worker without its supervisor would hold the port for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _config(app: FastAPI | partial[FastAPI], settings: Settings) -> DrainingConfig:
    config = DrainingConfig(
        app,
        factory=isinstance(app, partial),
        loop="uvloop",
        http=HotProtocol,
        ws="none",
        lifespan="on",
        workers=settings.api.workers,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Who a request comes from is for us to tell, see `neverstale.api.limits.callers`.
        proxy_headers=False,
        # The rest of the deadline is for what the requests have started: fills, then closing the clients.
        timeout_graceful_shutdown=max(int(settings.service.drain_seconds / 2), 1),
    )
    config.notice_seconds = settings.api.notice_ms / 1000
    return config


def tame_collector() -> None:
    """What is there now stays for ever: do not visit it again. Collect what requests leave, rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 100)


class Supervisor(Multiprocess):
    """Uvicorn's supervisor (dead workers are replaced, SIGHUP rolls them) with our rule for stopping: the first
    signal drains, a second one or the deadline ends all at once."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, drain_seconds: float) -> None:
        multiprocess.Process = DrainingProcess  # type: ignore[misc]  # there is no other way to name it
        super().__init__(config, [listener])
        self._drain_seconds = drain_seconds
        self.asked = False
        """To stop, by a signal."""

    def keep_subprocess_alive(self) -> None:
        before = list(self.processes)
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if new is not old:
                log.error("worker_replaced", role="api", pid=old.pid, exit_code=old.exitcode, by=new.pid)

    def handle_int(self) -> None:
        self._stop()

    def handle_term(self) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.should_exit.is_set():
            self._force("second signal")
        self.asked = True
        self.should_exit.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._force("second signal"))
        deadline = threading.Timer(self._drain_seconds, self._force, ["deadline"])
        deadline.daemon = True
        deadline.start()

    def _force(self, reason: str) -> None:
        log.error("forced", role="api", reason=reason)
        for process in self.processes:
            process.process.kill()
        os._exit(FORCED)
