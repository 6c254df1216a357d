"""Routes that are documented like any other, and answered by plain ASGI applications."""

from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from neverstale.api.callers.access import Reads
from neverstale.api.callers.middleware import DecidedRoute
from neverstale.api.web.route_names import tell_route


class AsgiRoute(DecidedRoute, APIRoute):
    """Documented like any other route, answered by a plain ASGI endpoint: no model, no dependency runs."""

    def __init__(self, path: str, endpoint: ASGIApp, model: type[BaseModel], *, reads: Reads, **options: Any) -> None:
        async def documented() -> None: ...

        super().__init__(path, documented, reads=reads, response_model=model, **options)
        self.app = endpoint

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        tell_route(scope, self.path)
        await super().handle(scope, receive, send)


def get_and_head(
    path: str, endpoint: ASGIApp, model: type[BaseModel], *, reads: Reads, **options: Any
) -> list[BaseRoute]:
    return [
        AsgiRoute(path, endpoint, model, reads=reads, methods=["GET"], **options),
        AsgiRoute(path, endpoint, model, reads=reads, methods=["HEAD"], include_in_schema=False),
    ]


def post_and_query(
    path: str, endpoint: ASGIApp, model: type[BaseModel], *, reads: Reads, **options: Any
) -> list[BaseRoute]:
    return [
        AsgiRoute(path, endpoint, model, reads=reads, methods=["POST"], **options),
        AsgiRoute(path, endpoint, model, reads=reads, methods=["QUERY"], include_in_schema=False),
    ]
