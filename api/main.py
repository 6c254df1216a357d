"""`neverstale run api`: one process, or uvicorn's supervisor over several."""

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess, multiprocess

from neverstale.api.app import create_app
from neverstale.api.callers.fresh_keys import check_files
from neverstale.api.operators.port import listen_inside
from neverstale.api.server.draining import DrainingConfig, DrainingProcess, DrainingServer
from neverstale.api.server.open_files import with_room
from neverstale.api.server.protocol import HotProtocol
from neverstale.catalog import Catalog
from neverstale.errors import Misconfigured
from neverstale.role import telemetry, traces, workers
from neverstale.role.renewal import LOOK_SECONDS, CatalogFile, Renewal, on_terminal
from neverstale.role.service import Life, run_role, say_exposed, serve_until_asked, service_url
from neverstale.role.tasks import start
from neverstale.role.workers import MetricsAddress, WorkersMetrics
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
_LISTENER = "_NEVERSTALE_LISTENER"
"""Variable that names the socket on which a process goes on listening while it starts again."""


def run(settings: Settings, catalog: Catalog, renewal: Renewal | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code (see `neverstale.role.service.run_role`)."""
    if settings.api.workers == 1:
        serve = partial(_serve, settings, catalog, renewal)
        return run_role("api", settings, serve, renewal=renewal, serve_http=False)
    telemetry.configure_logging(settings.service)
    say_exposed(settings, "api")
    try:
        check_files(settings.callers)
        listener, settings = listen(settings)
        service, settings = listen_inside(settings)
    except Misconfigured as error:
        log.error("stopped", role="api", reason=str(error))
        return 2
    metrics = WorkersMetrics()
    app = partial(_worker_app, service=service, metrics=metrics.address)
    supervisor = Supervisor(app, listener, settings, catalog, renewal)
    supervisor.run()
    metrics.close()
    if not supervisor.asked:
        log.error("failed", role="api", reason="a worker did not start")
        return 1
    log.info("stopped", role="api", reason="asked")
    return 0


def listen(settings: Settings) -> tuple[socket.socket, Settings]:
    """Take the port, and name the one that was taken in the settings."""
    host, port = settings.api.host, settings.api.port
    if (inherited := _inherited(port)) is not None:
        return _listening(inherited, settings)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        remedy = "free it, or set NEVERSTALE_API__HOST and NEVERSTALE_API__PORT"
        raise Misconfigured(f"api.port {port}", f"{host} gives no such port ({error.strerror})", remedy) from None
    return _listening(listener, settings)


def _inherited(port: int) -> socket.socket | None:
    """The socket that this process listened on before it started again, if its port is still the one to take."""
    handed = os.environ.pop(_LISTENER, None)
    if handed is None:
        return None
    listener = socket.socket(fileno=int(handed))
    if port not in (0, listener.getsockname()[1]):
        listener.close()
        return None
    return listener


def hand_over(listener: socket.socket, server: DrainingServer) -> None:
    """Let the process listen on while it starts again: whoever connects meanwhile waits, and nobody needs notice."""
    kept = listener.dup()
    kept.set_inheritable(True)
    os.environ[_LISTENER] = str(kept.detach())
    server.notice_seconds = 0


def _listening(listener: socket.socket, settings: Settings) -> tuple[socket.socket, Settings]:
    host = settings.api.host
    listener.set_inheritable(True)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        # Connections inherit it: what a slow client does not take stays here, where it is counted.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    port = listener.getsockname()[1]
    log.info("serving", role="api", url=service_url(host, port), workers=settings.api.workers)
    return listener, settings.model_copy(update={"api": settings.api.model_copy(update={"port": port})})


async def _serve(settings: Settings, catalog: Catalog, renewal: Renewal | None, life: Life) -> None:
    check_files(settings.callers)
    listener, settings = listen(settings)
    service, settings = listen_inside(settings)
    app = create_app(with_room(settings), catalog, CatalogFile(settings.catalog, catalog), service)
    tame_collector()
    server = DrainingServer(_config(app, settings))
    if renewal is not None:
        renewal.before_end = partial(hand_over, listener, server)
    async with asyncio.TaskGroup() as group:
        start(group, serve_until_asked(server, listener), "api-http")
        await life.stop.wait()
        server.should_exit = True


def _worker_app(settings: Settings, catalog: Catalog, service: socket.socket, metrics: MetricsAddress) -> FastAPI:
    """Called in a worker, with the supervisor's own settings and catalog."""
    telemetry.configure_logging(settings.service)
    workers.join(metrics)
    traces.configure(settings.service, "api")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    app = create_app(with_room(settings), catalog, CatalogFile(settings.catalog, catalog), service)
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
        # Who a request comes from is for us to tell, see `neverstale.api.callers.addresses`.
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

    def __init__(
        self,
        app: Callable[[Settings, Catalog], FastAPI],
        listener: socket.socket,
        settings: Settings,
        catalog: Catalog,
        renewal: Renewal | None = None,
    ) -> None:
        multiprocess.Process = DrainingProcess  # type: ignore[misc]  # there is no other way to name it
        super().__init__(_config(partial(app, settings, catalog), settings), [listener])
        self._app = app
        """What a worker makes of settings and catalog; it can be sent to another process."""
        self._settings = settings
        self._renewal = renewal
        self._looked_at = time.monotonic()
        self.asked = False
        """To stop, by a signal."""

    def keep_subprocess_alive(self) -> None:
        before = list(self.processes)
        super().keep_subprocess_alive()
        for old, new in zip(before, self.processes, strict=True):
            if new is not old:
                log.error("worker_replaced", role="api", pid=old.pid, exit_code=old.exitcode, by=new.pid)

        self._look_for_another_catalog()

    def _look_for_another_catalog(self) -> None:
        now = time.monotonic()
        if self._renewal is not None and now - self._looked_at >= LOOK_SECONDS and not self.should_exit.is_set():
            self._looked_at = now
            self._renew(self._renewal.is_due())

    def handle_hup(self) -> None:
        if on_terminal():
            self._stop()
        elif self._renewal is None:
            super().handle_hup()
        else:
            self._renew(self._renewal.is_asked())

    def _renew(self, found: tuple[Settings, Catalog] | None) -> None:
        """Replace the workers one after the other. What the supervisor itself has taken, the port and the number of
        workers, stays as it is."""
        if found is None:
            return
        settings, catalog = found
        api, service = self._settings.api, self._settings.service
        kept = {
            "api": settings.api.model_copy(update={"host": api.host, "port": api.port, "workers": api.workers}),
            "service": settings.service.model_copy(update={"host": service.host, "port": service.port}),
        }
        self.config.app = partial(self._app, settings.model_copy(update=kept), catalog)
        self.restart_all()

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
        deadline = threading.Timer(self._settings.service.drain_seconds, self._force, ["deadline"])
        deadline.daemon = True
        deadline.start()

    def _force(self, reason: str) -> None:
        log.error("forced", role="api", reason=reason)
        for process in self.processes:
            process.process.kill()
        os._exit(FORCED)
