"""`OPTIONS`: whether a page of another origin may send a request. Who asks shows nothing and reads nothing."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from neverstale.api.callers.access import NOTHING
from neverstale.api.callers.middleware import DecidedRoute, visit_of
from neverstale.api.state import state_of
from neverstale.api.web.responses import ReadyResponse


class PreflightRoute(DecidedRoute):
    """Takes `OPTIONS` for every path, and answers for those that one of the routes takes."""

    def __init__(self, path: str, routes: Sequence[BaseRoute], elsewhere: ASGIApp) -> None:
        """`elsewhere` answers whatever is no such question."""
        super().__init__(path, elsewhere, reads=NOTHING, methods=["OPTIONS"])
        self._routes = routes

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods = {
            method
            for route in self._routes
            if route.matches(scope)[0] is not Match.NONE
            for method in getattr(route, "methods", None) or ()
        }
        headers = state_of(scope).gate.cross_origin.preflight(scope["headers"], sorted(methods)) if methods else None
        if headers is None:
            await super().handle(scope, receive, send)
            return
        visit_of(scope).decided = True
        await ReadyResponse(204, headers)(scope, receive, send)
