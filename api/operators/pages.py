"""What operators see: metrics, details of readiness, and the description of every request.

They are answered on the service's own port, which only operators reach (`service.port`). The public port shows as
much of it as `api.public_pages` says; of readiness it tells only whether.
"""

import asyncio
from typing import Any, Final

import orjson
from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from neverstale.role.service import Health, health_routes
from neverstale.settings.api import PublicPages

SERVICE: Final = "neverstale.service"
"""In the state of requests that came in through the service's port."""
_CDN: Final = "https://cdn.jsdelivr.net"
_DOCS_HEADERS: Final = {
    "content-security-policy": f"default-src 'none'; script-src {_CDN} 'unsafe-inline'; style-src {_CDN} "
    "'unsafe-inline'; img-src data: https://fastapi.tiangolo.com; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class InnerRoute(Route):
    """There only on the service's port, unless it is `public`."""

    def __init__(self, path: str, endpoint: Any, *, public: bool) -> None:
        super().__init__(path, endpoint, include_in_schema=False)
        self._public = public

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if self._public or inside(scope) else (Match.NONE, {})


def inside(scope: Scope) -> bool:
    """Whether a request came in through the service's port."""
    return SERVICE in scope.get("state", ())


def inner_routes(app: FastAPI, health: Health, public: PublicPages) -> list[Route]:
    """`/livez`, `/readyz`, `/metrics`, `/docs` and `/openapi.json`."""
    livez, ready, metrics = health_routes(health)

    async def readyz(request: Request) -> Response:
        if public == "all" or inside(request.scope):
            return health.answer()
        body = orjson.dumps({"ready": health.ready})
        return Response(body, 200 if health.ready else 503, media_type="application/json")

    async def docs(_: Request) -> Response:
        page = get_swagger_ui_html(openapi_url="/openapi.json", title=app.title)
        page.headers.update(_DOCS_HEADERS)
        return page

    async def description(_: Request) -> Response:
        # Its models are made for the first who asks, which takes a moment that nobody else should wait for.
        return JSONResponse(await asyncio.to_thread(app.openapi))

    return [
        livez,
        Route(ready.path, readyz),
        InnerRoute(metrics.path, metrics.endpoint, public=public == "all"),
        InnerRoute("/docs", docs, public=public != "none"),
        InnerRoute("/openapi.json", description, public=public != "none"),
    ]
