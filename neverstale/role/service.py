"""A role's life: start, serve, drain, stop.

`run_role` owns the event loop, the signals and the role's HTTP port. The first SIGTERM or SIGINT sets the stop
event and starts the drain deadline; a second one, or the deadline, ends the process at once. A renewal
(`neverstale.role.renewal`) ends it in the same way; whoever called `run_role` starts it again.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import orjson
import uvicorn
import uvloop
from prometheus_client import CONTENT_TYPE_LATEST
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from neverstale import __version__
from neverstale.catalog.watchers import DEFAULT_GROUP
from neverstale.errors import Stop
from neverstale.keys import Names
from neverstale.links.exposure import exposed
from neverstale.links.redis_refusals import reason_of
from neverstale.role import telemetry, traces, workers
from neverstale.role.http_server import RoleServer
from neverstale.role.log_repetitions import Seldom
from neverstale.role.renewal import Renewal, renewing
from neverstale.role.retry import forever
from neverstale.role.tasks import Ended, cancelled, failed_in, in_words, named
from neverstale.settings import Settings

log = telemetry.logger(__name__)

NOTED_SECONDS = 60.0
NOT_SHOWN_SECONDS = 60.0
Tell: TypeAlias = Callable[[Sequence[tuple[Any, ...]]], Awaitable[Sequence[Any]]]
"""Sends commands to Redis, and returns its replies, errors among them."""
CARD_SECONDS = 5
"""A role's card in Redis outlives the role by at most this."""


@dataclass
class Health:
    """What a role knows about its readiness: server or part -> what is wrong with it, or `None`."""

    parts: dict[str, str | None] = field(default_factory=dict)
    noted: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Part -> until when (monotonic seconds) it is worth telling what was met there, and what. Unlike what is wrong,
    it makes nobody less ready."""

    def ok(self, part: str) -> None:
        self.parts[part] = None

    def wrong(self, part: str, reason: str) -> None:
        self.parts[part] = reason

    def note(self, part: str, met: str, seconds: float = NOTED_SECONDS) -> None:
        """Tell of it for so long."""
        self.noted[part] = time.monotonic() + seconds, met

    def of(self, group: str) -> "Health":
        """The same, for what works for one watcher group: its parts are told apart from those of the others."""
        return self if group == DEFAULT_GROUP else GroupHealth(self.parts, self.noted, f" of {group}")

    @property
    def ready(self) -> bool:
        return bool(self.parts) and not any(self.parts.values())

    def answer(self) -> Response:
        """`/readyz`: 200 or 503, which part is missing, and what else was met lately."""
        now = time.monotonic()
        parts = {part: reason or "ok" for part, reason in self.parts.items()}
        parts |= {part: met for part, (until, met) in self.noted.items() if now < until}
        body = orjson.dumps({"ready": self.ready, "parts": parts})
        return Response(body, 200 if self.ready else 503, media_type="application/json")


@dataclass
class GroupHealth(Health):
    """A view of a role's health, in which the names of all parts end in something more."""

    ending: str = ""

    def ok(self, part: str) -> None:
        super().ok(part + self.ending)

    def wrong(self, part: str, reason: str) -> None:
        super().wrong(part + self.ending, reason)

    def note(self, part: str, met: str, seconds: float = NOTED_SECONDS) -> None:
        super().note(part + self.ending, met, seconds)


@dataclass(frozen=True)
class Life:
    """Handed to a role's body."""

    role: str
    instance: str
    stop: asyncio.Event
    """Set when the role should stop taking new work and drain."""
    health: Health
    url: str
    """Where the role answers HTTP; empty if it does not."""


Body = Callable[[Life], Coroutine[Any, Any, None]]


def say_exposed(settings: Settings, role: str) -> None:
    """Says in the log what crosses a network in plain text, or is shown to anybody: it is never so without a word."""
    for one in exposed(settings, role):
        log.warning("exposed", subject=one.subject, reason=one.message, setting=one.setting, better=one.better)


def run_role(
    role: str, settings: Settings, body: Body, *, renewal: Renewal | None = None, serve_http: bool = True
) -> int:
    """Run `body` until it returns, and return the exit code: 0 as asked, 1 on a failure, 2 when a human must act."""
    telemetry.configure_logging(settings.service)
    say_exposed(settings, role)
    try:
        traces.configure(settings.service, role)
        return uvloop.run(_live(role, settings, body, renewal, serve_http))
    except Stop as error:
        log.error("stopped", role=role, reason=str(error))
        return 2
    finally:
        traces.finish()


async def _live(role: str, settings: Settings, body: Body, renewal: Renewal | None, serve_http: bool) -> int:
    stop, health, url, serving = asyncio.Event(), Health(), "", None
    drain_seconds = settings.service.drain_seconds
    listen_for_signals(stop, drain_seconds, renewal)
    try:
        async with contextlib.AsyncExitStack() as stack:
            if serve_http:
                url, serving = await stack.enter_async_context(_http(health, settings))
            life = Life(role, f"{socket.gethostname()}-{os.getpid()}", stop, health, url)
            if renewal is not None:
                await stack.enter_async_context(renewing(renewal, stop, health, drain_seconds))
            log.info("started", role=role, version=__version__)
            await _lived(body(life), serving)
        if not stop.is_set():
            raise Ended(f"the {role} came to its end")
    except Exception as error:
        if (reason := _first_stop(error)) is not None:
            raise reason from None
        log.error("failed", role=role, tasks=failed_in(error), reason=in_words(error), exc_info=error)
        return 1
    log.info("stopped", role=role, reason="renewal" if renewal is not None and renewal.granted else "asked")
    return 0


async def _lived(story: Coroutine[Any, Any, None], serving: asyncio.Task[None] | None) -> None:
    """Wait until the story ends, or until the task fails that tells of it."""
    living = asyncio.create_task(story, name="story")
    try:
        await asyncio.wait({living, serving} if serving else {living}, return_when=asyncio.FIRST_COMPLETED)
        if serving is not None and serving.done():
            serving.result()
        await living
    finally:
        await cancelled(living)


def _first_stop(error: BaseException) -> Stop | None:
    """The `Stop` in an error or in a task group's errors."""
    if isinstance(error, BaseExceptionGroup):
        found = error.subgroup(Stop)
        return _first_stop(found.exceptions[0]) if found else None
    return error if isinstance(error, Stop) else None


def listen_for_signals(stop: asyncio.Event, drain_seconds: float, renewal: Renewal | None = None) -> None:
    """First signal: set `stop` and start the deadline. Second signal or deadline: exit at once with 1. What stops to
    start again only stops then."""
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if renewal is not None and renewal.granted:
            renewal.granted = False
        elif stop.is_set():
            log.error("forced", signal=signal.Signals(number).name)
            os._exit(1)
        stop.set()
        loop.call_later(drain_seconds, expired)

    def expired() -> None:
        log.error("forced", reason=f"not drained within {drain_seconds} s")
        os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def health_routes(health: Health) -> list[Route]:
    """`/livez`, `/readyz` and `/metrics`, the same in every role. `/metrics?name[]=…` shows these samples only, as
    Prometheus' own clients do."""

    async def livez(_: Request) -> Response:
        return Response(b'{"live":true}', media_type="application/json")

    async def readyz(_: Request) -> Response:
        return health.answer()

    async def metrics(request: Request) -> Response:
        only = request.query_params.getlist("name[]")
        return Response(await workers.shown(only), media_type=CONTENT_TYPE_LATEST)

    return [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]


@contextlib.asynccontextmanager
async def _http(health: Health, settings: Settings) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    """Answer `/livez`, `/readyz` and `/metrics`: where, and the task that does."""
    service = settings.service
    listener = socket.create_server((service.host, service.port))
    config = uvicorn.Config(
        Starlette(routes=health_routes(health)), log_config=None, access_log=False, lifespan="off"
    )
    server = RoleServer(config)
    url = service_url(service.host, listener.getsockname()[1])
    log.info("serving", url=url)
    task = asyncio.create_task(named(serve_until_asked(server, listener), "service-http"), name="service-http")
    try:
        yield url, task
    finally:
        server.should_exit = True
        await asyncio.wait({task})


async def serve_until_asked(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until `server.should_exit` is set. `Ended`: it did not start, which it has said itself, or has ended."""
    try:
        await server.serve(sockets=[listener])
    except SystemExit:
        raise Ended("the HTTP server did not start") from None
    if not server.should_exit:
        raise Ended("the HTTP server came to its end")


def service_url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def show_card(
    life: Life, tell: Tell, names: Names, service: str | None = None, groups: Sequence[str] = ()
) -> NoReturn:
    """Keep this role's card in Redis until cancelled, for `neverstale status`. Best effort, no promise.

    `service`: where it answers operators, if that is not `life.url`. `groups`: the watcher groups that it works for.
    """
    card = {
        "role": life.role,
        "instance": life.instance,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "url": life.url,
        "service_url": life.url if service is None else service,
        "started_ms": int(time.time() * 1000),
        "version": __version__,
        "groups": list(groups),
    }
    key, complaint = names.role(life.role, life.instance), Seldom(NOT_SHOWN_SECONDS)

    async def show() -> float:
        try:
            (told,) = await tell([("SET", key, orjson.dumps(card), "EX", CARD_SECONDS)])
            if isinstance(told, Exception):
                raise told
        except (RedisError, OSError, TimeoutError) as error:
            if times := complaint.due():
                log.warning("card_not_shown", reason=f"redis is unavailable: {reason_of(error)}", times=times)
        return CARD_SECONDS / 3

    await forever(show)
