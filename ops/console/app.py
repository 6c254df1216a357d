"""The routes of the console: a page, its style and script, a stream of pictures, and `why`. Nothing is changed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import asdict
from importlib.resources import files
from typing import Any, Final
from urllib.parse import unquote_plus

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from neverstale.catalog import Catalog
from neverstale.errors import NeverstaleError
from neverstale.links.exposure import is_local
from neverstale.ops.console.lookout import Lookout
from neverstale.ops.why.group_story import GroupStory, lines_of_group, why_group
from neverstale.ops.why.spoken import lines
from neverstale.ops.why.story import Story
from neverstale.ops.why.verdict import Verdict
from neverstale.ops.why.why import why
from neverstale.role.service import Health, health_routes
from neverstale.settings import Settings

MOST_PAGES: Final = 50
"""Open at once; the next one is told 503."""
MOST_QUESTIONS: Final = 2
"""Of `why` at once: each asks all three servers."""
_SECURE: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
_TYPES: Final = {"page.html": "text/html", "console.css": "text/css", "console.js": "text/javascript"}

Endpoint = Callable[[Request], Awaitable[Response]]


def app(settings: Settings, catalog: Catalog, lookout: Lookout, health: Health) -> Starlette:
    questions = asyncio.Semaphore(MOST_QUESTIONS)

    async def pictures(_: Request) -> Response:
        if lookout.watching >= MOST_PAGES:
            return _refusal(503, f"{MOST_PAGES} pages are open: close one")
        return StreamingResponse(_stream(lookout), media_type="text/event-stream", headers=_SECURE)

    async def ask(request: Request) -> Response:
        resource, of, key = (request.query_params.get(name, "") for name in ("resource", "of", "key"))
        if questions.locked():
            return _refusal(503, "somebody else asks just now: try again in a moment")
        async with questions:
            try:
                answer = await (_of_group(resource, of, key) if of else _of_document(resource, key))
            except NeverstaleError as error:
                return _refusal(400, str(error))
        return Response(orjson.dumps(answer, default=str), headers=_SECURE, media_type="application/json")

    async def _of_document(resource: str, key: str) -> dict[str, Any]:
        story, told = await why(settings, catalog, resource, key)
        return _answer(told, lines(story, told), story)

    async def _of_group(resource: str, declaration: str, by: str) -> dict[str, Any]:
        """`by` as a URL has it: `origin=JFK&day:int=3`."""
        fields = [unquote_plus(one) for one in by.split("&") if one]
        group, told = await why_group(settings, catalog, resource, declaration, fields)
        return _answer(told, lines_of_group(group, told), group)

    routes = [
        Route("/", _file("page.html")),
        Route("/console.css", _file("console.css")),
        Route("/console.js", _file("console.js")),
        Route("/pictures", _ours(settings, pictures)),
        Route("/why", _ours(settings, ask)),
        *health_routes(health),
    ]
    return Starlette(routes=routes)


def _answer(told: Verdict, said: Iterable[tuple[str, str]], story: Story | GroupStory) -> dict[str, Any]:
    """The verdict stands above its lines, of which it is the first."""
    return {"ok": told.ok, "verdict": told.sentence, "lines": list(said)[1:], "story": asdict(story)}


async def _stream(lookout: Lookout) -> AsyncIterator[bytes]:
    with lookout.watched():
        yield b"retry: 1000\n\n"
        async for picture in lookout.pictures():
            yield b"data: %b\n\n" % picture


def _file(name: str) -> Endpoint:
    content = files("neverstale.ops.console").joinpath(name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, headers=_SECURE, media_type=_TYPES[name])

    return answer


def _ours(settings: Settings, endpoint: Endpoint) -> Endpoint:
    """Whoever listens on loopback is asked by this machine only: not by a page of somebody else, whose name was made
    to lead here (DNS rebinding)."""
    if not is_local(settings.console.host):
        return endpoint

    async def answer(request: Request) -> Response:
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        return await endpoint(request) if is_local(host) else _refusal(421, f"this console is not {host}")

    return answer


def _refusal(status: int, why: str) -> Response:
    return Response(orjson.dumps({"problem": why}), status, headers=_SECURE, media_type="application/json")
