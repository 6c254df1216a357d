"""`neverstale run console`: wires settings, the lookout and its page."""

import asyncio
import socket
from functools import partial

import uvicorn

from neverstale.catalog import Catalog
from neverstale.errors import Stop
from neverstale.ops.console.app import app
from neverstale.ops.console.lookout import Lookout
from neverstale.role import telemetry
from neverstale.role.http_server import RoleServer
from neverstale.role.renewal import Renewal
from neverstale.role.service import Life, run_role, serve_until_asked, service_url
from neverstale.role.supervised import Supervised
from neverstale.role.tasks import start
from neverstale.settings import Settings

log = telemetry.logger(__name__)


def run(settings: Settings, catalog: Catalog, renewal: Renewal) -> int:
    """Show the page until SIGTERM or SIGINT; returns the exit code, see `neverstale.role.service.run_role`."""
    return run_role("console", settings, partial(live, settings, catalog), serve_http=False, renewal=renewal)


async def live(settings: Settings, catalog: Catalog, life: Life) -> None:
    """Look and show until `life.stop`."""
    console = settings.console
    try:
        listener = socket.create_server((console.host, console.port))
    except OSError as error:
        raise Stop(
            f"console.port {console.port}: {console.host} gives no such port ({error.strerror}): free it, or set "
            "NEVERSTALE_CONSOLE__HOST and NEVERSTALE_CONSOLE__PORT"
        ) from None
    log.info("serving", role="console", url=service_url(console.host, listener.getsockname()[1]))
    lookout = Lookout(settings, catalog)
    life.health.ok("console")
    page = app(settings, catalog, lookout, life.health)
    server = RoleServer(uvicorn.Config(page, log_config=None, access_log=False, lifespan="off"))
    async with Supervised(life.health) as beside, asyncio.TaskGroup() as group:
        beside.keep("look", lookout.keep_looking)
        beside.keep("look-long", lookout.keep_looking_long)
        start(group, serve_until_asked(server, listener), "console-http")
        await life.stop.wait()
        lookout.end()
        server.should_exit = True
