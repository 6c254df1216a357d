"""All kinds of what is derived. A further one is a file beside the others, and a line here."""

from collections.abc import Mapping
from typing import Final

from starlette.routing import BaseRoute

from neverstale.api.endpoints.derived import counters, lists, lookups, rankings
from neverstale.catalog import Resource

_KINDS: Final = (lists, lookups, counters, rankings)


def routes_of(resource: Resource, resources: Mapping[str, Resource]) -> list[BaseRoute]:
    """Of all that a resource declares. `resources`: all of the catalog."""
    return [route for kind in _KINDS for route in kind.routes(resource, resources)]
