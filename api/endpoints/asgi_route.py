"""Routes that are documented like any other, and answered by plain ASGI applications."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from neverstale.api.callers.access import Reads
from neverstale.api.callers.middleware import DecidedRoute
from neverstale.api.web.route_names import tell_route

Model = Callable[[], type[BaseModel]]
"""Makes what an answer looks like, when the first one asks for the description of the API: models are expensive."""


class AsgiRoute(DecidedRoute):
    """Documented like any other route, answered by a plain ASGI endpoint: no model, no dependency runs."""

    def __init__(
        self, path: str, endpoint: ASGIApp, model: Model, *, reads: Reads, methods: list[str], **options: Any
    ) -> None:
        """`methods`: the first one is documented. `options`: of FastAPI's route, for its documentation."""
        super().__init__(path, endpoint, reads=reads, methods=methods)
        self.app = endpoint  # a function or a method, too, is an application
        self._model = model
        self._documented = methods[0]
        self._options = options

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        tell_route(scope, self.path)
        await super().handle(scope, receive, send)

    def described(self) -> APIRoute:
        """What FastAPI writes its documentation from."""

        async def documented() -> None: ...

        return APIRoute(
            self.path, documented, methods=[self._documented], response_model=self._model(), **self._options
        )


def described(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    """All that are documented, in their order."""
    return (route.described() for route in routes if isinstance(route, AsgiRoute))


def get_and_head(path: str, endpoint: ASGIApp, model: Model, *, reads: Reads, **options: Any) -> AsgiRoute:
    return AsgiRoute(path, endpoint, model, reads=reads, methods=["GET", "HEAD"], **options)


def post_and_query(path: str, endpoint: ASGIApp, model: Model, *, reads: Reads, **options: Any) -> AsgiRoute:
    return AsgiRoute(path, endpoint, model, reads=reads, methods=["POST", "QUERY"], **options)
