"""All kinds of what is derived. The module of a kind, beside this one, is found by the name that the catalog has."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final, Protocol, cast

from starlette.routing import BaseRoute

from neverstale.api.derived.sources import Sources
from neverstale.api.endpoints.derived.group_reads import GroupRead
from neverstale.catalog import Resource
from neverstale.catalog.declarations import KIND_NAMES


class KindOfEndpoint(Protocol):
    """What a module of a kind has."""

    def routes(self, resource: Resource, resources: Mapping[str, Resource]) -> Iterator[BaseRoute]:
        """Of all that a resource declares of this kind. `resources`: all of the catalog."""

    def group_reads(self, resource: Resource, sources: Sources) -> Iterator[GroupRead]:
        """What the auditor asks; nothing, if it cannot."""


ENDPOINTS: Final[Mapping[str, KindOfEndpoint]] = {
    kind: cast("KindOfEndpoint", import_module(f"neverstale.api.endpoints.derived.{kind}")) for kind in KIND_NAMES
}


def routes_of(resource: Resource, resources: Mapping[str, Resource]) -> list[BaseRoute]:
    """Of all that a resource declares. `resources`: all of the catalog."""
    return [route for kind in ENDPOINTS.values() for route in kind.routes(resource, resources)]
