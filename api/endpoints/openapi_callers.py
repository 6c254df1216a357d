"""OpenAPI of callers: what a request shows, which scope it needs, and how it is refused."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.routing import BaseRoute

from neverstale.api.callers.middleware import DecidedRoute
from neverstale.api.endpoints.openapi import problem
from neverstale.catalog import Resource

BEARER: Final = "bearer"
_SCHEME: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key that `neverstale keys add` has made, or a token of the identity provider.",
}
_CHALLENGE: Final = {"WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}


def with_callers(
    openapi: dict[str, Any], routes: Iterable[BaseRoute], resources: Mapping[str, Resource]
) -> dict[str, Any]:
    """Adds the scheme, and to each operation the scope that it needs."""
    openapi["components"].setdefault("securitySchemes", {})[BEARER] = _SCHEME
    for route in routes:
        if isinstance(route, DecidedRoute) and route.path in openapi["paths"]:
            for method in route.methods or ():
                operation = openapi["paths"][route.path].get(method.lower())
                if operation is not None:
                    _secure(operation, route, resources)
    return openapi


def _secure(operation: dict[str, Any], route: DecidedRoute, resources: Mapping[str, Resource]) -> None:
    reads = route.reads
    operation["responses"]["401"] = problem(
        "Nobody believes what the request shows, or it shows nothing.", _CHALLENGE
    )
    if reads.resource is None or resources[reads.resource].public:
        operation["security"] = [{}, {BEARER: []}]
        return
    scope = f"read:{reads.resource}:{reads.kind}"
    operation["security"] = [{BEARER: [scope]}]
    said = operation["responses"].get("403", {}).get("description", "")
    refused = f"The caller lacks a scope, such as {scope}; `scope` names it."
    operation["responses"]["403"] = problem(f"{refused} {said}".rstrip(), _CHALLENGE)
