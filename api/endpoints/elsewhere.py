"""What no route below `/v1/` takes."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from neverstale.api.callers.middleware import DecidedRoute
from neverstale.api.web.paths import PREFIX
from neverstale.api.web.problems import (
    bad_parameter,
    method_not_allowed,
    unknown_derived,
    unknown_path,
    unknown_resource,
)
from neverstale.catalog import Catalog


class Elsewhere:
    """Says what is wrong with a request that no route takes."""

    def __init__(self, catalog: Catalog, read: Sequence[BaseRoute]) -> None:
        self._read = read
        self._names = {*catalog.resources, "freshness", "-"}
        self._derived = {name for name, resource in catalog.resources.items() if resource.derived}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, *rest = scope["path"].removeprefix(PREFIX).split("/")
        if name not in self._names:
            raise unknown_resource()
        if allowed := self._allowed(scope):
            raise method_not_allowed(", ".join(allowed))
        if len(rest) > 1 and rest[0] == "-" and name in self._derived:
            raise unknown_derived()
        if len(rest) > 1:
            raise unknown_path()
        if scope["method"] not in ("GET", "HEAD"):
            raise method_not_allowed()
        raise bad_parameter("key", "the key is empty")

    def _allowed(self, scope: Scope) -> list[str]:
        """The methods of the routes that this path leads to, if its own is none of them."""
        found = [route for route in self._read if route.matches(scope)[0] is Match.PARTIAL]
        return sorted(
            {method for route in found if isinstance(route, DecidedRoute) for method in route.methods or ()}
        )
